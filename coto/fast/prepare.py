"""Prepare a model for fast training steps, and give it back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel

from coto.device import Compute
from coto.models.settings import Fast


@contextmanager
def prepared(model: PeftModel, fast: Fast, compute: Compute) -> Iterator[None]:
    """Train the model inside by the ways that are switched on and that it allows.

    Names of modules, state dict and trainable parameters are the same inside. Afterwards the model
    computes as before, and its frozen weights are bit by bit what they were.
    """
    yield
