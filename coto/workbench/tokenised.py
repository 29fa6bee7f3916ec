"""Prompts with answers as training data of a language model: tokens, loss mask, batches."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import torch
from datasets import Dataset
from torch import Tensor

from coto import record
from coto.backbones.causal import Causal
from coto.errors import CotoError

log = logging.getLogger(__name__)

IGNORED = -100
_VERSION = 1  # of what the cache holds


@dataclass(frozen=True)
class Recipe:
    """How texts become training items.

    Attributes:
        max_length: tokens that an item is cut to, at its end, as LLM-Adapters does.
        loss_on: tokens that the loss is on: the answer's, or the prompt's too. EOS follows every
            answer that the cut leaves room for (LLM-Adapters again), and counts as its last token.
    """

    max_length: int
    loss_on: Literal["answer", "all"]


@dataclass(frozen=True)
class Tokenised:
    """Training items.

    Attributes:
        data: columns ``input_ids``, ``labels``, ``length``; packed ones have ``position_ids`` too.
        items: how many answers they hold.
        truncated: how many were cut, the dropped ones among them.
        dropped: how many were left out, because the cut left no token for the loss.
    """

    data: Dataset
    items: int
    truncated: int
    dropped: int


def tokenise(
    causal: Causal,
    prompts: Sequence[str],
    targets: Sequence[str],
    recipe: Recipe,
    cache: Path | None = None,
) -> Tokenised:
    """Tokenise prompts with their answers, or read what was made of the same ones before.

    Args:
        causal: whose tokenizer.
        prompts: what is asked.
        targets: what shall follow.
        recipe: length and loss.
        cache: folder for results, which are keyed by content: texts, tokenizer and recipe.

    Raises:
        CotoError: if the cut leaves nothing to train on.
    """
    made = None if cache is None else cache / f"{_key(causal, prompts, targets, recipe)}.parquet"
    if made is not None and made.is_file():
        data = Dataset(pq.read_table(made))
        log.info("tokens of %d rows are in the cache", len(prompts))
    else:
        data = Dataset.from_dict(_items(causal, list(prompts), list(targets), recipe))
        if made is not None:
            with record.atomic(made) as temporary:
                pq.write_table(data.data.table, temporary, compression="zstd")
    kept = [i for i, trained in enumerate(data["trained"]) if trained]
    result = Tokenised(
        data.select(kept).select_columns(["input_ids", "labels", "length"]),
        items=len(kept),
        truncated=sum(data["truncated"]),
        dropped=len(data) - len(kept),
    )
    if not kept:
        raise CotoError(
            f"max_length = {recipe.max_length}: none of {len(prompts)} answers is within it; "
            "expected room for the prompt and its answer"
        )
    return result


def pack(tokenised: Tokenised, max_length: int) -> Tokenised:
    """Put several items into one window, in their order; positions begin anew at each.

    Attention between the items of a window is for the model to prevent, by their positions.
    """
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
    window: dict[str, list[int]] = {name: [] for name in columns}
    for item in tokenised.data:
        if len(window["input_ids"]) + item["length"] > max_length:
            for name, values in window.items():
                columns[name].append(values)
            window = {name: [] for name in columns}
        window["input_ids"] += item["input_ids"]
        # No token predicts the first one of its own item, least of all another item's last.
        window["labels"] += [IGNORED, *item["labels"][1:]]
        window["position_ids"] += range(item["length"])
    for name, values in window.items():
        columns[name].append(values)
    lengths = [len(ids) for ids in columns["input_ids"]]
    data = Dataset.from_dict({**columns, "length": lengths})
    return Tokenised(data, tokenised.items, tokenised.truncated, tokenised.dropped)


@dataclass(frozen=True)
class Collator:
    """Pads items on the right and tells padding by length.

    Attributes:
        pad: token in padded places; it is never looked at.
        narrow: leave out the logits before the first token that the loss is on. The vocabulary is
            large and answers are short, so that they would cost a fifth of a step.
    """

    pad: int
    narrow: bool = False

    def __call__(self, items: list[Mapping[str, list[int]]]) -> dict[str, Any]:
        """A batch; without ``attention_mask`` if items are packed: positions tell them apart."""
        lengths = [len(item["input_ids"]) for item in items]
        width = max(lengths)
        labels = _padded([item["labels"] for item in items], width, IGNORED)
        batch = {"input_ids": _padded([item["input_ids"] for item in items], width, self.pad)}
        if "position_ids" in items[0]:
            pairs = zip(items, lengths, strict=True)
            # Padding starts again at 0, as one more item that nothing attends to.
            rows = [[*item["position_ids"], *range(width - n)] for item, n in pairs]
            batch["position_ids"] = torch.tensor(rows)
        else:
            batch["attention_mask"] = _padded([[1] * n for n in lengths], width, 0)
        if self.narrow:
            # The logit at a token predicts the next one; windows of both end at the same place.
            first = int((labels != IGNORED).any(0).nonzero()[0])
            # As indices, not a number: they make a copy, and products of a mere view are slow.
            batch["logits_to_keep"] = torch.arange(max(first - 1, 0), width)
            labels = labels[:, max(first - 1, 0) :]
        batch["labels"] = labels
        return batch


def _items(
    causal: Causal, prompts: list[str], targets: list[str], recipe: Recipe
) -> dict[str, list[Any]]:
    eos = causal.tokenizer.eos_token_id
    columns: dict[str, list[Any]] = {
        name: [] for name in ("input_ids", "labels", "length", "truncated", "trained")
    }
    for whole, asked in zip(*causal.encode_pairs(prompts, targets), strict=True):
        ids = whole[: recipe.max_length]
        if len(ids) < recipe.max_length and ids[-1] != eos:
            ids = [*ids, eos]
        hidden = min(asked, len(ids)) if recipe.loss_on == "answer" else 0
        columns["input_ids"].append(ids)
        columns["labels"].append([IGNORED] * hidden + ids[hidden:])
        columns["length"].append(len(ids))
        columns["truncated"].append(len(whole) > recipe.max_length)
        columns["trained"].append(len(ids) > max(hidden, 1))
    return columns


def _key(causal: Causal, prompts: Sequence[str], targets: Sequence[str], recipe: Recipe) -> str:
    """Hash of everything that tokens depend on."""
    tokenizer = causal.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab())
    digest = hashlib.sha256()
    for part in (
        [_VERSION, type(tokenizer).__name__, tokenizer.special_tokens_map, asdict(recipe)],
        content,
        list(prompts),
        list(targets),
    ):
        digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


def _padded(rows: list[list[int]], width: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
