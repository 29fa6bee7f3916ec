"""Classification of tokenised rows."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from coto.device import Compute
from coto.errors import CotoError


def predict(
    model: nn.Module,
    rows: Sequence[Mapping[str, list[int]]],
    tokenizer: PreTrainedTokenizerBase,
    compute: Compute,
    batch_tokens: int,
) -> np.ndarray:
    """Logits of every row, (rows, labels), fp32, in the order given.

    Batches hold rows of similar length and at most `batch_tokens` padded tokens, so that their
    composition, and with it the result, depends on the rows alone.

    Raises:
        CotoError: if a logit is not finite.
    """
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]["input_ids"]), i))
    logits: dict[int, np.ndarray] = {}
    # One autocast for all batches: it casts every weight once and keeps the result.
    with torch.inference_mode(), compute.autocast():
        for batch in _batches(order, rows, batch_tokens):
            inputs = tokenizer.pad([dict(rows[i]) for i in batch], return_tensors="pt")
            output = model(**inputs.to(compute.device)).logits
            logits.update(zip(batch, output.float().cpu().numpy(), strict=True))
    result = np.stack([logits[i] for i in range(len(rows))])
    if not np.isfinite(result).all():
        raise CotoError("predictions: logits are not finite; training or merging diverged")
    return result


def _batches(
    order: Sequence[int], rows: Sequence[Mapping[str, list[int]]], batch_tokens: int
) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in order:
        longest = len(rows[index]["input_ids"])  # rows come in ascending length
        if batch and (len(batch) + 1) * longest > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
