"""A language model in memory as lm-eval sees it, with what its own wrapper leaves to be wished.

lm-eval's wrapper computes logits over the whole vocabulary at every token although it reads a few,
rounds log-probabilities to the weights' precision, ends beam search by looking at the first beams
only, and joins a prompt to its continuation by tokens that the two would not have together.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig

from coto.backbones.causal import Causal
from coto.errors import CotoError

# Shorter common beginnings are not worth a cache.
_WORTHWHILE = 8

Request = tuple[tuple[str, str], list[int], list[int]]


class Scorer(HFLM):
    """A model for :func:`lm_eval.simple_evaluate`.

    Args:
        model: the model, with or without an adapter.
        causal: its tokenizer, and the model whose configuration it has.
        batch_tokens: padded tokens of a batch.
        beams: of generation, for its memory.
        new_tokens: that generation may add.
        kv_cache: whether what all texts begin with is computed once, for a KV cache.
    """

    def __init__(
        self,
        model: nn.Module,
        causal: Causal,
        batch_tokens: int,
        beams: int,
        new_tokens: int,
        kv_cache: bool = True,
    ) -> None:
        super().__init__(
            pretrained=model,
            tokenizer=causal.tokenizer,
            backend="causal",
            max_length=causal.max_length,
            batch_size=1,
        )
        self._causal = causal
        self._batch_tokens = batch_tokens
        self._beams, self._new_tokens = beams, new_tokens
        self._kv_cache = kv_cache
        self.cut: set[str] = set()
        """Prompts that were longer than the model may read."""

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        (whole,), (asked,) = self._causal.encode_pairs([context], [continuation])
        return whole[:asked], whole[asked:]

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Prompts for generation, padded on the left; the beginning of a long one is cut off."""
        if left_truncate_len is not None:
            lengths = map(len, self._causal.encode(list(strings)))
            self.cut |= {s for s, n in zip(strings, lengths, strict=True) if n > left_truncate_len}
        return super().tok_batch_encode(strings, padding_side, left_truncate_len, truncation)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[Request],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether greedy decoding gives it.

        Requests whose tokens differ in the last one only share a forward pass, so that an item
        with answers of such a kind costs one. What all begin with is computed once.
        """
        sharing: dict[tuple[int, ...], list[int]] = {}
        for index, ((context, _), asked, told) in enumerate(requests):
            whole = asked + told
            if len(whole) - 1 > self.max_length:
                self.cut.add(context)
            sharing.setdefault(tuple(whole[:-1][-self.max_length :]), []).append(index)
        scored = {ids: max(len(requests[i][2]) for i in found) for ids, found in sharing.items()}
        results: dict[int, tuple[float, bool]] = {}
        with torch.inference_mode():
            begun, cache = self._beginning(scored)
            for batch in self._batches(sorted(scored, key=lambda ids: (len(ids), ids)), begun):
                logits, first = self._logits(batch, scored, begun, cache)
                for row, ids in enumerate(batch):
                    end = len(ids) - first
                    found = logits[row, end - scored[ids] : end].float().log_softmax(-1)
                    for index in sharing[ids]:
                        tokens = torch.tensor(requests[index][2], device=found.device)
                        at = found[-len(tokens) :]
                        total = float(at.gather(1, tokens[:, None]).double().sum())
                        results[index] = total, bool((at.argmax(-1) == tokens).all())
        broken = sum(total != total or abs(total) == float("inf") for total, _ in results.values())
        if broken:
            raise CotoError(
                f"{broken} of {len(requests)} log-likelihoods are not finite; training or merging "
                "diverged"
            )
        return [results[i] for i in range(len(requests))]

    def _beginning(self, scored: dict[tuple[int, ...], int]) -> tuple[int, DynamicCache | None]:
        """How many tokens all sequences begin with before any scored one, and their states."""
        first, last = min(scored), max(scored)
        common = next(
            (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
            min(len(first), len(last)),
        )
        # The logit at the last token before a continuation is already needed.
        common = min(common, *(len(ids) - count for ids, count in scored.items()))
        stateful = getattr(self._causal.model, "_is_stateful", False)  # e.g. Mamba: no such cache
        if len(scored) < 2 or common < _WORTHWHILE or stateful or not self._kv_cache:
            return 0, None
        cache = DynamicCache(config=self._causal.model.config)
        ids = torch.tensor([first[:common]], device=self.device)
        self.model(input_ids=ids, past_key_values=cache, use_cache=True, **self._keep(1, 0))
        return common, cache

    def _batches(
        self, sequences: list[tuple[int, ...]], begun: int
    ) -> Iterator[list[tuple[int, ...]]]:
        """Sequences of similar length, at most so many padded tokens together."""
        batch: list[tuple[int, ...]] = []
        for ids in sequences:
            if batch and (len(batch) + 1) * (len(ids) - begun) > self._batch_tokens:
                yield batch
                batch = []
            batch.append(ids)
        if batch:
            yield batch

    def _logits(
        self,
        batch: list[tuple[int, ...]],
        scored: dict[tuple[int, ...], int],
        begun: int,
        cache: DynamicCache | None,
    ) -> tuple[Tensor, int]:
        """Logits of a batch from a position on, and that position; padding is on the right."""
        width = max(len(ids) for ids in batch)
        first = min(len(ids) - scored[ids] for ids in batch)
        pad = self._causal.tokenizer.pad_token_id
        rows = [[*ids[begun:], *[pad] * (width - len(ids))] for ids in batch]
        mask = [[1] * len(ids) + [0] * (width - len(ids)) for ids in batch]
        own: dict[str, Any] = {}
        if cache is not None:
            states = deepcopy(cache)
            states.batch_repeat_interleave(len(batch))
            own = {"past_key_values": states, "use_cache": True}
        output = self.model(
            input_ids=torch.tensor(rows, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            **self._keep(width - begun, first - begun),
            **own,
        )
        return output.logits, first if self._causal.narrows else begun

    def _keep(self, width: int, first: int) -> dict[str, Tensor]:
        """Argument for logits from a token on, where the model can leave out the others."""
        # As indices, not a number: they make a copy, and products of a mere view are slow.
        keep = torch.arange(first, width, device=self.device)
        return {"logits_to_keep": keep} if self._causal.narrows else {}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts of the model, in batches that hold as many tokens as those of ranking."""
        longest = max(map(len, self._causal.encode([request.args[0] for request in requests])))
        item = self._beams * (min(longest, self.max_length) + self._new_tokens)
        self.batch_size_per_gpu = max(1, self._batch_tokens // item)
        return super().generate_until(requests, disable_tqdm)

    def _model_generate(
        self, context: Tensor, max_length: int, stop: list[str], **settings: Any
    ) -> Tensor:
        """Generate until EOS; other stop strings are cut off the text afterwards."""
        tokenizer, own = self._causal.tokenizer, self._causal.model.generation_config
        room = max_length - context.shape[1]
        mask = settings.pop("attention_mask")
        ends = own.eos_token_id
        ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        # A configuration of our own: a checkpoint's may ask for sampling or penalties.
        config = GenerationConfig(
            do_sample=False,
            num_beams=settings.get("num_beams", 1),
            max_new_tokens=room,
            eos_token_id=sorted({tokenizer.eos_token_id, *ends}),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            use_cache=True,
        )
        with torch.inference_mode():
            return self.model.generate(
                input_ids=context, attention_mask=mask, generation_config=config
            )
