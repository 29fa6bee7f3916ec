"""Log-likelihoods of texts that may follow prompts, in as few forward passes as they need.

A prompt is computed once, however many continuations it has. Where these are of one token each, as
yes and no, they are read from the logits after the prompt. Longer ones follow it side by side in
one sequence, each blind to the others, at positions as if it were alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from coto.errors import CotoError
from coto.models.batches import token_batches
from coto.models.causal.loading import Causal

_WORTHWHILE = 8  # shorter common beginnings are not worth a cache
_PADDING = -1

Ids = tuple[int, ...]
Pair = tuple[Sequence[int], Sequence[int]]
Result = tuple[float, bool]


@dataclass
class _Sequence:
    """A prompt with continuations, and the logits to read: place, token, number of the request."""

    ids: list[int]
    positions: list[int]
    branches: list[int]  # 0 is the prompt
    picks: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, continuation: Sequence[int], prompt: int, requests: Sequence[int]) -> None:
        """Let a continuation follow the first `prompt` tokens, without its last one."""
        places = [prompt - 1, *range(len(self.ids), len(self.ids) + len(continuation) - 1)]
        self.ids += continuation[:-1]
        self.positions += range(prompt, prompt + len(continuation) - 1)
        self.branches += [max(self.branches) + 1] * (len(continuation) - 1)
        for request in requests:
            self.picks += [(p, token, request) for p, token in zip(places, continuation)]  # noqa: B905


@dataclass(frozen=True)
class _Batch:
    """Sequences padded on the right, (rows, width), without what all of them begin with."""

    inputs: dict[str, Tensor]
    forked: bool  # whether a row has continuations side by side
    rows: Tensor  # of the hidden states that logits are made of, (logits,)
    columns: Tensor
    at: Tensor  # which of the logits each picked token is read from, (picks,)
    tokens: Tensor
    requests: np.ndarray


class Likelihoods:
    """Pairs of a prompt and its continuation, as tokens, in batches that any weights can compute.

    A prompt that leaves no room for its continuation loses its beginning; ``cut`` has the numbers
    of such pairs. A batch has at most `batch_tokens` padded tokens. With `kv_cache` what all
    prompts begin with is computed once. Raises CotoError if a continuation alone is too long.
    """

    def __init__(
        self, causal: Causal, pairs: Sequence[Pair], batch_tokens: int, kv_cache: bool = True
    ) -> None:
        self._causal, self._count = causal, len(pairs)
        self.cut: set[int] = set()
        sequences = self._sequences(pairs)
        ids = [tuple(one.ids) for one in sequences]
        first, last = min(ids), max(ids)
        alike = takewhile(lambda two: two[0] == two[1], zip(first, last, strict=False))
        # The logit at the last token of a prompt is needed by itself.
        common = min(sum(1 for _ in alike), *(min(p for p, _, _ in s.picks) for s in sequences))
        stateful = getattr(causal.model, "_is_stateful", False)  # e.g. Mamba: no such cache
        shared = kv_cache and len(ids) > 1 and common >= _WORTHWHILE and not stateful
        self._common = first[:common] if shared else ()
        begun = len(self._common)
        ascending = sorted(sequences, key=lambda s: (len(s.ids), s.ids))
        parts = token_batches(ascending, lambda s: len(s.ids) - begun, batch_tokens)
        self._batches = [self._batch(part) for part in parts]

    def _sequences(self, pairs: Sequence[Pair]) -> list[_Sequence]:
        """One sequence per prompt, or per long continuation where the model mixes neighbours."""
        limit = self._causal.max_length
        asked: dict[Ids, dict[Ids, list[int]]] = {}
        for number, (prompt, continuation) in enumerate(pairs):
            if len(continuation) > limit:
                problem = f"a candidate answer has {len(continuation)} tokens"
                raise CotoError(f"{problem}, expected at most {limit}, what the model may read")
            excess = len(prompt) + len(continuation) - 1 - limit
            if excess > 0:
                self.cut.add(number)
            followed = asked.setdefault(tuple(prompt[max(excess, 0) :]), {})
            followed.setdefault(tuple(continuation), []).append(number)
        several = any(sum(len(one) > 1 for one in found) > 1 for found in asked.values())
        forks = several and self._causal.forks
        sequences = []
        for prompt, found in asked.items():
            short: list[Ids] = [one for one in found if len(one) == 1]
            long: list[Ids] = [one for one in found if len(one) > 1]
            parts: list[list[Ids]] = [short, *([one] for one in long)]
            for part in [[*short, *long]] if forks else parts:
                if part:
                    size = len(prompt)
                    sequence = _Sequence(list(prompt), list(range(size)), [0] * size)
                    for continuation in part:
                        sequence.add(continuation, size, found[continuation])
                    sequences.append(sequence)
        return sequences

    def _batch(self, sequences: list[_Sequence]) -> _Batch:
        begun = len(self._common)
        width = max(len(one.ids) for one in sequences) - begun

        def padded(rows: list[list[int]], value: int) -> Tensor:
            cut = (row[begun:] for row in rows)
            return torch.tensor([[*row, *[value] * (width - len(row))] for row in cut])

        ids = padded([one.ids for one in sequences], self._causal.tokenizer.pad_token_id)
        branches = padded([one.branches for one in sequences], _PADDING)
        forked = any(max(one.branches) > 1 for one in sequences)
        inputs = {"input_ids": ids}
        if forked:
            inputs["position_ids"] = padded([one.positions for one in sequences], 0)
            inputs["attention_mask"] = _sight(branches, begun)
        else:
            seen = branches != _PADDING
            before = torch.ones(len(seen), begun, dtype=torch.long)
            inputs["attention_mask"] = torch.cat([before, seen.long()], dim=1)
        picks = [
            (row, place - begun, token, request)
            for row, one in enumerate(sequences)
            for place, token, request in one.picks
        ]
        places = sorted({pick[:2] for pick in picks})
        number = {place: index for index, place in enumerate(places)}
        rows, columns = torch.tensor(places).T
        return _Batch(
            inputs,
            forked,
            rows,
            columns,
            at=torch.tensor([number[pick[:2]] for pick in picks]),
            tokens=torch.tensor([pick[2] for pick in picks]),
            requests=np.asarray([pick[3] for pick in picks]),
        )

    def compute(self, model: nn.Module) -> list[Result]:
        """Log-likelihood in nats of each continuation, and whether greedy decoding gives it.

        `model`, left in evaluation mode, is the language model, or a PEFT model around it. The
        device of its parameters and the caller's autocast decide where and how it computes. Raises
        CotoError if a value is not finite.
        """
        model.eval()
        totals, greedy = np.zeros(self._count), np.ones(self._count, dtype=bool)
        with torch.inference_mode():
            cache = self._beginning(model)
            for batch in self._batches:
                logits = self._logits(model, batch, cache).float()
                at, tokens = batch.at.to(logits.device), batch.tokens.to(logits.device)
                found = logits[at, tokens] - logits.logsumexp(-1)[at]
                np.add.at(totals, batch.requests, found.double().cpu().numpy())
                best = (logits.argmax(-1)[at] == tokens).cpu().numpy()
                np.logical_and.at(greedy, batch.requests, best)
        if broken := int(np.sum(~np.isfinite(totals))):
            what = f"{broken} of {self._count} log-likelihoods are not finite"
            raise CotoError(f"{what}; training or merging diverged")
        return list(zip(totals.tolist(), greedy.tolist(), strict=True))

    def _beginning(self, model: nn.Module) -> DynamicCache | None:
        """States of what all prompts begin with."""
        if not self._common:
            return None
        cache = DynamicCache(config=self._causal.model.config)
        ids = torch.tensor([self._common], device=self._device)
        with reading(self._causal, torch.tensor([0]), torch.tensor([len(self._common) - 1])):
            model(input_ids=ids, past_key_values=cache, use_cache=True)
        return cache

    def _logits(self, model: nn.Module, batch: _Batch, cache: DynamicCache | None) -> Tensor:
        """The logits that a batch's picks are read from, (logits, vocabulary)."""
        inputs: dict[str, Any] = {k: v.to(self._device) for k, v in batch.inputs.items()}
        if batch.forked:
            inputs["attention_mask"] = additive(inputs["attention_mask"], self._causal)
        if cache is not None:
            states = deepcopy(cache)
            states.batch_repeat_interleave(len(inputs["input_ids"]))
            inputs |= {"past_key_values": states, "use_cache": True}
        with reading(self._causal, batch.rows, batch.columns):
            return model(**inputs).logits[0]

    @property
    def _device(self) -> torch.device:
        return self._causal.model.device


def _sight(branches: Tensor, begun: int) -> Tensor:
    """What each token may see, (rows, 1, width, begun + width): what all rows begin with, and what
    stands before it in its prompt and its own continuation; padding sees itself and the former.
    """
    width = branches.shape[1]
    asking, asked = branches[:, :, None], branches[:, None, :]
    earlier = torch.ones(width, width, dtype=torch.bool).tril()
    own = earlier & ((asked == 0) | (asked == asking))
    before = torch.ones(len(branches), width, begun, dtype=torch.bool)
    return torch.cat([before, own], dim=2)[:, None]


def additive(sight: Tensor, causal: Causal) -> Tensor:
    """The mask of attention that models add to its logits."""
    mask = torch.zeros(sight.shape, dtype=causal.model.dtype, device=sight.device)
    return mask.masked_fill(~sight, float("-inf"))


@contextmanager
def reading(causal: Causal, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Let the model make logits of these hidden states only: (1, states, vocabulary)."""
    head = causal.model.get_output_embeddings()

    def pick(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0][rows.to(args[0].device), columns.to(args[0].device)][None],)

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
