"""Training steps of one model in several ways, each taken apart into its passes.

All ways share one model, and so its weights: a way is what is done to the adapters before the step,
which is not timed. Half an 8B model's memory would go to a copy.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import nn

from benchmarks.common.harness import Bench, Row, Timings, peak_memory, wait
from coto.device import Compute
from coto.fast.prepare import prepared
from coto.method.gate import AdapterGate
from coto.method.strategies import make_strategy
from coto.models.settings import Fast

Flags = NDArray[np.bool_]
Batch = Mapping[str, torch.Tensor]
How = Literal["vanilla", "coto", "floor"]
PLAIN = Fast(**dict.fromkeys(Fast.model_fields, False))
"""Nothing that saves time: the model as PEFT makes it."""


@dataclass(frozen=True)
class Step:
    """Seconds of one training step by pass."""

    forward: float
    backward: float
    update: float

    @property
    def whole(self) -> float:
        """Seconds of all passes."""
        return self.forward + self.backward + self.update


class Stepper:
    """A model with adapters that takes steps with all or some blocks' adapters.

    ``vanilla`` has no hook and every adapter, ``coto`` the gate that training uses, and ``floor``
    has the layers without adapters in the place of those that are off: what is off costs nothing,
    and the backward pass ends at the lowest block that is on. No exact implementation of CoTo on
    the same layers is faster than the floor. `fast` says which ways to save time are on, all of
    them off by default; :meth:`close` gives the model back.
    """

    def __init__(
        self, model: PeftModel, compute: Compute, fast: Fast = PLAIN, lr: float = 1e-4
    ) -> None:
        self.model, self.compute = model.train(), compute
        self.gate = AdapterGate(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr, fused=fast.fused_optimizer)
        self._open = ExitStack()
        self._open.enter_context(prepared(model, fast, compute))

    @property
    def blocks(self) -> int:
        """Number of groups that are switched."""
        return len(self.gate)

    def step(self, batch: Batch, how: How, flags: Flags | None = None) -> Step:
        """Take a step; `flags` says which groups are on, all if it is None."""
        undo = self._prepare(how, flags)
        try:
            return self._timed(batch)
        finally:
            undo()

    def memory(self, batch: Batch, how: How, flags: Flags | None = None) -> float:
        """Peak memory of a step in MB, beyond weights and optimizer state."""
        undo = self._prepare(how, flags)
        try:
            return peak_memory(lambda: self._timed(batch), self.compute)
        finally:
            undo()

    def close(self) -> None:
        """Give the model back as it was."""
        self._open.close()

    def _timed(self, batch: Batch) -> Step:
        times = []
        wait(self.compute)
        begun = time.perf_counter()

        def lap() -> None:
            wait(self.compute)
            times.append(time.perf_counter())

        with self.compute.autocast():
            loss = self.model(**batch).loss
        lap()
        loss.backward()
        lap()
        self.optimizer.step()
        self.optimizer.zero_grad()
        lap()
        return Step(times[0] - begun, times[1] - times[0], times[2] - times[1])

    def _prepare(self, how: How, flags: Flags | None) -> Callable[[], None]:
        if how == "vanilla" or flags is None:
            return lambda: None
        if how == "coto":
            self.gate.attach().set(flags)
            return self.gate.detach
        return self._strip(flags)

    def _strip(self, flags: Flags) -> Callable[[], None]:
        """Put layers without adapters in the place of those that are off."""
        taken: list[tuple[nn.Module, str, nn.Module]] = []
        for on, names in zip(flags, self.gate.groups.values(), strict=True):
            for name in names if not on else ():
                parent, _, child = name.rpartition(".")
                owner, layer = self.model.get_submodule(parent), self.model.get_submodule(name)
                taken.append((owner, child, layer))
                setattr(owner, child, layer.base_layer)

        def undo() -> None:
            for owner, child, layer in taken:
                setattr(owner, child, layer)

        return undo


def sample_flags(blocks: int, steps: int, seed: int) -> list[Flags]:
    """CoTo's flags of a few steps, from the middles of equal parts of a whole schedule."""
    total, coto = 100 * steps, make_strategy("coto")
    return [coto.flags(seed, int((i + 0.5) * total / steps), total, blocks) for i in range(steps)]


def whole_schedule(
    case: str,
    steppers: Mapping[str, Stepper],
    batches: Sequence[Batch],
    bench: Bench[Any],
    steps: int,
    *,
    floor: bool = True,
) -> list[Row]:
    """CoTo against vanilla over a whole schedule, step by step on the same batches.

    A round is `steps` steps over the schedule with masks of its own seed; seconds are per step. The
    first one of `steppers` has the floor, if asked for; vanilla steps of others stand against its.
    """
    first, *others = steppers
    hows: tuple[How, ...] = ("vanilla", "coto", "floor") if floor else ("vanilla", "coto")
    ways: dict[str, tuple[Stepper, How]] = {how: (steppers[first], how) for how in hows}
    pairs: list[tuple[str, str]] = [(how, "vanilla") for how in hows[1:]]
    for name in others:
        vanilla, coto = f"vanilla, {name}", f"coto, {name}"
        ways |= {vanilla: (steppers[name], "vanilla"), coto: (steppers[name], "coto")}
        pairs += [(coto, vanilla), (vanilla, "vanilla")]
    laps, order = _Laps(ways), list(ways)
    active: list[float] = []
    blocks = steppers[first].blocks
    for number in range(-1, bench.rounds):
        sampled = sample_flags(blocks, steps if number >= 0 else 2, seed=max(number, 0))
        found: dict[str, list[Step]] = {way: [] for way in ways}
        for index, flags in enumerate(sampled):
            batch, shift = batches[index % len(batches)], index % len(order)
            for way in order[shift:] + order[:shift]:
                stepper, how = ways[way]
                found[way].append(stepper.step(batch, how, flags))
        if number >= 0:
            active.append(float(np.mean(sampled)))
            laps.add(found)
    share = float(np.mean(active))
    return [laps.row(case, way, against, active=share) for way, against in pairs]


def by_position(
    case: str, stepper: Stepper, batches: Sequence[Batch], bench: Bench[Any], counts: Sequence[int]
) -> list[Row]:
    """Steps with the lowest and the highest so many groups active against steps with all."""
    total = stepper.blocks
    masks = {
        f"{position} {count}": (np.arange(total) < count)[:: 1 if position == "lowest" else -1]
        for count in counts
        for position in ("lowest", "highest")
    }
    ways: dict[str, tuple[How, Flags | None]] = {"all": ("vanilla", None)}
    ways |= {name: ("coto", flags) for name, flags in masks.items()}
    laps, order = _Laps(ways), list(ways)
    for number in range(-1, bench.rounds):
        shift, batch = number % len(order), batches[number % len(batches)]
        found = {name: [stepper.step(batch, *ways[name])] for name in order[shift:] + order[:shift]}
        if number >= 0:
            laps.add(found)
    memory = {name: stepper.memory(batches[0], *way) for name, way in ways.items()}
    return [
        laps.row(
            *(case, name, "all"),
            active=float(flags.mean()),
            memory_mb=memory[name],
            memory_mb_against=memory["all"],
        )
        for name, flags in masks.items()
    ]


class _Laps:
    """Mean seconds of the passes of every way, round by round."""

    def __init__(self, ways: Iterable[str]) -> None:
        self._rounds: dict[str, list[Step]] = {way: [] for way in ways}

    def add(self, found: Mapping[str, Sequence[Step]]) -> None:
        """Note a round's steps."""
        for way, steps in found.items():
            forward, backward, update = np.mean(
                [(one.forward, one.backward, one.update) for one in steps], axis=0
            ).tolist()
            self._rounds[way].append(Step(forward, backward, update))

    def row(self, case: str, way: str, against: str, **more: Any) -> Row:
        """A line of a record: whole steps, and the ratios of their two passes."""

        def timings(part: str) -> Timings:
            return Timings({w: [getattr(s, part) for s in r] for w, r in self._rounds.items()})

        passes = {p: timings(p).ratio(way, against).median for p in ("forward", "backward")}
        return timings("whole").row(case, way, against, **passes, **more)
