"""Frozen weights in half precision, cast once and not at every step."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


@contextmanager
def cast_once(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Hold the frozen weights of matrix products and convolutions in `dtype` inside.

    Autocast casts a frozen weight anew in every product. The cast one gives the same product, bit
    by bit. What autocast leaves alone stays in fp32: embeddings, norms, and all that trains. So
    does a weight that something else than its own product reads: of an embedding as well, or of an
    adapter that multiplies with it or takes its norm (HiRA, DoRA).

    The weights in fp32 wait in main memory, half as large again as what the device holds, and come
    back afterwards as they were.
    """
    kept = [(weight, weight.data.cpu()) for weight in _weights(model)]
    for weight, _ in kept:
        weight.data = weight.data.to(dtype)
    try:
        yield
    finally:
        for weight, data in kept:
            weight.data = data.to(weight.device)


def _weights(model: nn.Module) -> list[nn.Parameter]:
    owners = Counter(id(p) for module in model.modules() for p in module._parameters.values())
    read = {
        layer.get_base_layer()
        for layer in model.modules()
        if isinstance(layer, BaseTunerLayer)
        and not (isinstance(layer, LoraLayer) and not layer.lora_variant)
    }
    return [
        weight
        for module in model.modules()
        if type(module) in (nn.Linear, nn.Conv2d) and module not in read
        for weight in module.parameters()
        if not weight.requires_grad and weight.dtype == torch.float32 and owners[id(weight)] == 1
    ]
