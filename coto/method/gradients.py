"""How large the gradients of each block's adapters are over a training: the paper's motivation.

Plain training leaves the adapters of some layers with small gradients throughout; CoTo is meant to
balance them. :class:`GradientNorms` measures it in both arms, without changing what is trained.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from coto.method.gate import adapter_layers, block_name

_PREFIX = "base_model.model."


class GradientNorms(TrainerCallback, ExportableState):
    """Records the L2 norm of the gradients of each transformer block's adapters.

    Blocks are those of `coto.method.gate.AdapterGate`; adapters outside all blocks, heads and other
    trained parameters are left out. A block is active in an update if one of its adapters has a
    gradient. Norms are taken once per update, just before it: of the gradients that all
    micro-batches and ranks made together, after fp16's loss scaling was undone and *after*
    clipping (the Trainer has no event in between). Clipping multiplies all gradients by one number,
    so that comparisons between the blocks of an update do not depend on it. Updates in which an
    adapter's gradient is not finite, which fp16 training skips, do not count.

    Nothing waits for the device until the Trainer saves or :meth:`rows` is called. The sums are in
    the Trainer's own checkpoints, and a resumed training goes on from them by itself; with
    ``restore_callback_states_from_checkpoint`` the Trainer would put a copy in this object's place.
    In distributed training rank 0 records.

    Args:
        points: the training is divided into so many bins of equal length.

    Raises:
        ValueError: `points` is below 1, or not that of the checkpoint that training resumes from.
    """

    def __init__(self, points: int) -> None:
        if points < 1:
            raise ValueError(f"points: got {points}, expected 1 or more")
        self.points = points
        self._blocks: dict[str, list[nn.Parameter]] = {}
        # (3, points, blocks): sum of norms, updates in which the block was active, all updates.
        self._tally = torch.zeros(3, points, 0)
        self._off = torch.tensor(-1.0)  # stands for the norm of a skipped block

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Find the blocks; begin at zero, or where the checkpoint left off."""
        assert model is not None  # the Trainer always passes it
        self._blocks = _parameters_by_block(model)
        device = next((p.device for own in self._blocks.values() for p in own), None)
        self._off = self._off.to(device)
        self._tally = torch.zeros(3, self.points, len(self._blocks), device=device)
        if state.global_step:
            # A checkpoint without us has no entry, which the Trainer expects when it saves again.
            checkpoint: Any = state.stateful_callbacks
            saved = checkpoint.setdefault(type(self).__name__, self.state())
            if saved["args"] != self.state()["args"]:
                raise ValueError(
                    f"points: got {self.points}, expected {saved['args']['points']}, "
                    "as in the checkpoint that training resumes from"
                )
            self._tally = torch.tensor(saved["attributes"]["tally"], device=device)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the norms of this update."""
        if not state.is_world_process_zero or not self._blocks:
            return
        norms = torch.stack([self._norm(parameters) for parameters in self._blocks.values()])
        active = norms != self._off
        finite = norms.isfinite().all()
        counted = torch.stack([norms * active, active, torch.ones_like(norms)])
        place = min(state.global_step * self.points // state.max_steps, self.points - 1)
        self._tally[:, place] += torch.where(finite, counted, 0.0)

    def state(self) -> dict[str, Any]:
        """What the Trainer writes into its checkpoints."""
        return {"args": {"points": self.points}, "attributes": {"tally": self._tally.tolist()}}

    def rows(self) -> list[dict[str, Any]]:
        """One row for each block and each bin in which there was an update.

        ``stack`` (the block's name up to its number, such as ``bert.encoder.layer``) and ``layer``
        (the number) tell the block; ``share`` in (0, 1) is the middle of the bin in the training.
        ``norm`` is the mean over the bin's ``steps`` updates, with 0 where the block was skipped,
        ``norm_active`` that over the ``steps_active`` in which it was not (0 if there are none).
        """
        found = []
        for place, bin_ in enumerate(self._tally.cpu().double().unbind(dim=1)):
            for block, (total, active, steps) in zip(self._blocks, bin_.T.tolist(), strict=True):
                if steps:
                    stack, _, layer = block.removeprefix(_PREFIX).rpartition(".")
                    found.append(
                        {
                            "stack": stack,
                            "layer": int(layer),
                            "share": (place + 0.5) / self.points,
                            "norm": total / steps,
                            "norm_active": total / active if active else 0.0,
                            "steps_active": int(active),
                            "steps": int(steps),
                        }
                    )
        return found

    def _norm(self, parameters: list[nn.Parameter]) -> Tensor:
        gradients = [p.grad for p in parameters if p.grad is not None]
        return get_total_norm(gradients).to(self._off) if gradients else self._off


def _parameters_by_block(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, layer in adapter_layers(model):
        block = block_name(name)
        if block.rpartition(".")[2].isdigit():
            blocks.setdefault(block, []).extend(
                parameter
                for part, parameter in layer.named_parameters()
                if parameter.requires_grad and not part.startswith("base_layer.")
            )
    return blocks
