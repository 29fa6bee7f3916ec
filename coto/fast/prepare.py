"""Prepare a model for fast training steps, and give it back as it was."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from peft import PeftModel

from coto.device import Compute
from coto.fast.answers import answers_only, reads_answers
from coto.fast.last_block import last_blocks, narrowed
from coto.fast.projections import fast_projections
from coto.fast.steps import lean_steps
from coto.fast.weights import cast_once
from coto.models.settings import Fast


@contextmanager
def prepared(model: PeftModel, fast: Fast, compute: Compute) -> Iterator[None]:
    """Train the model inside by the ways that are switched on and that it allows.

    Names of modules, state dict and what trains are the same inside. Afterwards the model computes
    as before, and its frozen weights are bit by bit what they were.
    """
    plain = model.get_base_model()
    # Without a launcher the Trainer copies the model to several GPUs at every step.
    copied = compute.device.type == "cuda" and torch.cuda.device_count() > 1
    copied = copied and not torch.distributed.is_initialized()
    with ExitStack() as stack:
        if fast.cast_once and compute.dtype != torch.float32:
            stack.enter_context(cast_once(model, compute.dtype))
        if (fast.adapter_products or fast.joint_projections) and not copied:
            products, joint = fast.adapter_products, fast.joint_projections
            stack.enter_context(fast_projections(model, products=products, joint=joint))
        blocks = last_blocks(plain) if fast.last_block else []
        if fast.answer_logits and reads_answers(plain) and not any(one.told for one in blocks):
            stack.enter_context(answers_only(model, "logits_to_keep"))
        stack.enter_context(narrowed(model, blocks))
        if fast.lean_steps and not copied:
            stack.enter_context(lean_steps(model))
        yield
