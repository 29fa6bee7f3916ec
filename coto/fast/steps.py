"""Steps of the HF Trainer without their needless walks through the model."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn


@contextmanager
def lean_steps(model: nn.Module) -> Iterator[None]:
    """Shorten, inside, what the Trainer asks of a model at every step.

    It puts each module in training mode, lists all parameters to clip gradients and to clear them,
    and counts the model's numbers: a tenth of a small model's step. The answers are the same: no
    parameters have gradients but those that train; a model in training mode stays in it.

    The garbage collector leaves alone, meanwhile, what is there already. It would walk through all
    of torch at the end of a training.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def train(mode: bool = True) -> nn.Module:
        return model if model.training == mode else type(model).train(model, mode)

    def parameters(recurse: bool = True) -> Iterator[nn.Parameter]:
        return iter(trained) if recurse else type(model).parameters(model, recurse)

    def zero_grad(set_to_none: bool = True) -> None:
        for parameter in trained:
            if parameter.grad is not None and not set_to_none:
                parameter.grad.detach_().zero_()
            elif parameter.grad is not None:
                parameter.grad = None

    own: dict[str, object] = {"train": train, "parameters": parameters, "zero_grad": zero_grad}
    count: Any = getattr(model, "num_parameters", None)
    if count is not None:
        own["num_parameters"] = cache(count)
    vars(model).update(own)
    freezes = not gc.get_freeze_count()  # somebody else's are not ours to end
    if freezes:
        gc.freeze()
    try:
        yield
    finally:
        if freezes:
            gc.unfreeze()
        for name in own:
            del vars(model)[name]
