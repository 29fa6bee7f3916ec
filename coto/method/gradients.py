"""How large the gradients of each block's adapters are in training, which CoTo is to balance."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ExportableState

from coto.method.gate import adapter_layers, block_name, own_parameters

_PREFIX = "base_model.model."


class GradientNorms(TrainerCallback, ExportableState):
    """Records the L2 norm of the gradients of each transformer block's adapters.

    Blocks are those of `coto.method.gate.AdapterGate`; what trains outside them is left out. Norms
    are taken just before each update: of the gradients that all micro-batches and ranks made
    together, without fp16's loss scaling and *after* clipping, which multiplies all by one number
    (the Trainer has no event in between). Updates in which an adapter's gradient is not finite,
    which fp16 training skips, do not count. In distributed training rank 0 records.

    Nothing waits for the device until the Trainer saves or :meth:`rows` is called. A resumed
    training goes on from the sums in its checkpoint by itself, without
    ``restore_callback_states_from_checkpoint``, which would put a copy in this object's place.
    ValueError if `points`, the number of bins of equal length that the training is divided into, is
    below 1, or not that of the checkpoint.
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
        self, args: Any, state: TrainerState, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Find the blocks; begin at zero, or where the checkpoint left off."""
        self._blocks = {}
        for name, layer in adapter_layers(model):
            block = block_name(name)
            if block.rpartition(".")[2].isdigit():
                own = [parameter for _, parameter in own_parameters(layer)]
                self._blocks.setdefault(block, []).extend(own)
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
        self, args: Any, state: TrainerState, control: Any, **kwargs: Any
    ) -> None:
        """Take the norms of this update."""
        if not state.is_world_process_zero or not self._blocks:
            return
        grads = [[p.grad for p in own if p.grad is not None] for own in self._blocks.values()]
        norms = torch.stack([get_total_norm(g).to(self._off) if g else self._off for g in grads])
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

        The block is ``stack`` (such as ``bert.encoder.layer``) and ``layer`` (its number);
        ``share`` in (0, 1) is the middle of the bin in the training. ``norm`` is the mean over the
        bin's ``steps`` updates, with 0 where the block was skipped, ``norm_active`` that over the
        ``steps_active`` in which it was not (0 if there are none).
        """
        rows = []
        for place, bin_ in enumerate(self._tally.cpu().double().unbind(dim=1)):
            share = (place + 0.5) / self.points
            for block, (total, active, steps) in zip(self._blocks, bin_.T.tolist(), strict=True):
                if steps:
                    stack, _, layer = block.removeprefix(_PREFIX).rpartition(".")
                    row = {"stack": stack, "layer": int(layer), "share": share}
                    row |= {"norm": total / steps, "norm_active": total / active if active else 0.0}
                    rows.append({**row, "steps_active": int(active), "steps": int(steps)})
        return rows
