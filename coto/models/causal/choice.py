"""Training on the choice among candidate answers, each of which is one token.

The loss is the cross-entropy of the candidates' logits after the prompt. Logits of the rest of a
vocabulary, which would cost a small model a fifth of a step, are never computed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput
from transformers.modeling_utils import PreTrainedModel

from coto.errors import CotoError
from coto.models.causal.loading import Causal
from coto.tasks.language import prompt, target

IGNORED = -100


def tokenise_choices(causal: Causal, rows: pd.DataFrame, max_length: int) -> Dataset:
    """Tokens of prompts, with their candidate answers' tokens.

    Columns are ``input_ids``, ``labels`` (the place of the right one, then all candidates),
    ``length``, ``truncated``, and ``trained``, false where the limit would cut the question.
    Raises CotoError if an answer is not one of the candidates, or one of them not one token.
    """
    prompts = list(map(prompt, rows["instruction"], rows["set"]))
    pairs: list[tuple[str, str]] = []
    for asked, row in zip(prompts, rows.to_dict("records"), strict=True):
        choices = [] if row["choices"] is None else list(row["choices"])
        if row["answer"] not in choices:
            known = ", ".join(map(repr, choices)) or "none"
            expected = f"expected one of its candidates ({known})"
            raise CotoError(f"{_place(row)}: answer = {row['answer']!r}: {expected}")
        pairs += [(asked, target(choice, row["set"])) for choice in choices]
    whole, ends = causal.encode_pairs(*map(list, zip(*pairs, strict=True)))
    encoded = zip(whole, ends, strict=True)
    items = []
    for row in rows.to_dict("records"):
        tokens, asked_ids = [], []
        for choice in row["choices"]:
            ids, end = next(encoded)
            if len(ids) != end + 1:
                problem = f"answer {choice!r} has {len(ids) - end} tokens"
                expected = "expected answers of one token"
                raise CotoError(f"loss_on = 'candidates': {_place(row)}: {problem}, {expected}")
            tokens.append(ids[end])
            asked_ids = ids[:end]
        fits = len(asked_ids) <= max_length
        items.append(
            {
                "input_ids": asked_ids,
                "labels": [list(row["choices"]).index(row["answer"]), *tokens],
                "length": len(asked_ids),
                "truncated": not fits,
                "trained": fits,
            }
        )
    return Dataset.from_list(items)


def _place(row: Mapping[Any, Any]) -> str:
    return f"{row['set']}, item {row['idx']}"


def collate_choices(items: list[Mapping[str, list[int]]], *, pad: int) -> dict[str, Tensor]:
    """A batch of :func:`tokenise_choices`, padded on the right, for :func:`learn_choices`.

    ``labels`` are (rows, 2): what the Trainer counts, whether or not it believes that a language
    model predicts no first label, is then the rows.
    """
    prompts = [torch.tensor(item["input_ids"]) for item in items]
    choices = [torch.tensor(item["labels"][1:]) for item in items]
    own = [torch.ones(len(one), dtype=torch.long) for one in prompts]
    fill = nn.utils.rnn.pad_sequence
    return {
        "input_ids": fill(prompts, batch_first=True, padding_value=pad),
        "attention_mask": fill(own, batch_first=True),
        "candidates": fill(choices, batch_first=True, padding_value=IGNORED),
        "labels": torch.tensor([[IGNORED, item["labels"][0]] for item in items]),
    }


def learn_choices(model: PreTrainedModel) -> None:
    """Let a language model take batches of :func:`collate_choices`; others are as before.

    Its logits of such a batch are (rows, candidates). All that it does to logits after its head,
    such as a scale, still applies.
    """
    usual, head = model.forward, model.get_output_embeddings()
    assert isinstance(head, nn.Linear)

    @wraps(usual)
    def forward(*args: Any, **inputs: Any) -> Any:
        candidates: Tensor | None = inputs.pop("candidates", None)
        if candidates is None:
            return usual(*args, **inputs)
        right = inputs.pop("labels")[:, 1]
        count = inputs.pop("num_items_in_batch", None)
        with _only(head, inputs["attention_mask"].sum(1) - 1, candidates.clamp(min=0)):
            logits = usual(*args, **inputs).logits[:, 0].float()
        logits = logits.masked_fill(candidates == IGNORED, float("-inf"))
        loss = nn.functional.cross_entropy(logits, right, reduction="sum")
        # With parts of a batch, the Trainer divides all of them by the number of all rows.
        return CausalLMOutput(loss=loss / (len(right) if count is None else count), logits=logits)

    model.forward = forward


@contextmanager
def _only(head: nn.Linear, places: Tensor, candidates: Tensor) -> Iterator[None]:
    """Let the head make logits (rows, 1, candidates) of one hidden state per row."""

    def chosen(hidden: Tensor) -> Tensor:
        at = hidden[torch.arange(len(hidden), device=hidden.device), places]
        logits = torch.einsum("rd,rcd->rc", at, head.weight[candidates])
        return (logits if head.bias is None else logits + head.bias[candidates])[:, None]

    vars(head)["forward"] = chosen
    try:
        yield
    finally:
        del vars(head)["forward"]
