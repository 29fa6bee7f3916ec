"""Let autograd stop at the lowest active adapter although gradient checkpointing is on.

For checkpointing, transformers and PEFT make the output of the input embeddings require a gradient,
so that every block is differentiated and computed a second time, also the blocks below the lowest
active adapter. Only the reentrant kind of checkpoint needs that, and only where a block has
something to train. The hooks here undo it elsewhere: autograd then records nothing until the first
parameter that trains, and what is not recorded is not recomputed. Nothing is assumed about the
order of blocks or about what else is trainable. Outputs and parameters' gradients do not change.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.modeling_layers import GradientCheckpointingLayer


class CheckpointingHooks:
    """Hooks without effect unless ``model`` trains with gradient checkpointing.

    Args:
        model: the model; searched for embeddings and blocks when attached.
        skipped: the adapter layers that are off now; looked at during every forward pass.
    """

    def __init__(self, model: nn.Module, skipped: Collection[nn.Module]) -> None:
        self._model = model
        self._skipped = skipped
        self._blocks: list[GradientCheckpointingLayer] = []
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Register the hooks."""
        modules = list(self._model.modules())
        self._blocks = [m for m in modules if isinstance(m, GradientCheckpointingLayer)]
        for embedding in _input_embeddings(modules):
            self._handles.append(embedding.register_forward_hook(self._release_output))
        for block in self._blocks:
            self._handles.append(block.register_forward_pre_hook(self._require_input_grad))

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._blocks.clear()

    def _release_output(self, embedding: nn.Module, args: Any, output: Any) -> Any:
        # A leaf that requires a gradient was told so by a hook: an embedding that trains, or one
        # with an active adapter, puts out a result of autograd. Without blocks known to us, we
        # could not serve a reentrant checkpoint, and let things be.
        if embedding.training and self._blocks and _is_told_leaf(output):
            return output.detach()
        return output

    def _require_input_grad(self, block: nn.Module, args: Any) -> Any:
        # A reentrant checkpoint trains the parameters inside only if an input requires a gradient.
        if (
            block.training
            and _is_reentrant(block)
            and torch.is_grad_enabled()
            and args
            and isinstance(args[0], torch.Tensor)
            and not any(isinstance(a, torch.Tensor) and a.requires_grad for a in args)
            and self._trains(block)
        ):
            return args[0].detach().requires_grad_(True), *args[1:]
        return args

    def _trains(self, block: nn.Module) -> bool:
        off = {id(p) for m in block.modules() if m in self._skipped for p in m.parameters()}
        return any(p.requires_grad and id(p) not in off for p in block.parameters())


def _input_embeddings(modules: list[nn.Module]) -> list[nn.Module]:
    found: dict[int, nn.Module] = {}
    for module in modules:
        try:
            embedding = module.get_input_embeddings()  # type: ignore[operator]
        except (AttributeError, NotImplementedError, TypeError):
            continue
        if isinstance(embedding, nn.Module):
            found[id(embedding)] = embedding
    return list(found.values())


def _is_told_leaf(output: object) -> bool:
    return isinstance(output, torch.Tensor) and output.requires_grad and output.is_leaf


def _is_reentrant(block: nn.Module) -> bool:
    if not getattr(block, "gradient_checkpointing", False):
        return False
    function = getattr(block, "_gradient_checkpointing_func", None)
    # not known (a user's own function): the cautious answer only costs one gradient too many
    return bool(getattr(function, "keywords", {}).get("use_reentrant", True))
