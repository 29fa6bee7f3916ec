"""Classification of tokenised rows by a model whose weights may be changed for the occasion."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from coto.device import Compute
from coto.errors import CotoError
from coto.operators.adapter import Deltas


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


class Backbone:
    """A model without adapters to which weight changes and heads are added for a while."""

    def __init__(self, model: nn.Module, compute: Compute) -> None:
        self.model = model.to(compute.device)
        self._device = compute.device

    def weights(self, modules: Sequence[str]) -> dict[str, Tensor]:
        """Base weights W₀ by module name, on the CPU."""
        return {name: self._weight(name).detach().cpu() for name in modules}

    @contextmanager
    def changed(self, deltas: Deltas, heads: Mapping[str, Tensor]) -> Iterator[nn.Module]:
        """The model with W₀ + ΔW and other heads; W₀ is back, bit for bit, afterwards."""
        changes: dict[nn.Parameter, Tensor] = {
            self._weight(name): self._weight(name).detach() + delta.to(self._device)
            for name, delta in deltas.items()
        }
        for name, tensor in heads.items():
            changes[self._parameter(name)] = tensor.to(self._device)
        originals = {parameter: parameter.data for parameter in changes}
        try:
            for parameter, value in changes.items():
                parameter.data = value
            yield self.model
        finally:
            for parameter, value in originals.items():
                parameter.data = value

    def _weight(self, module: str) -> nn.Parameter:
        return self._parameter(f"{module}.weight")

    def _parameter(self, name: str) -> nn.Parameter:
        try:
            return self.model.get_parameter(name)
        except AttributeError:
            raise CotoError(
                f"adapter: the backbone has no parameter {name!r}: expected the backbone that the "
                "adapter was trained on"
            ) from None
