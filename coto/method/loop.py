"""CoTo in a plain training loop."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from coto.method.dropout import InputDropout
from coto.method.gate import AdapterGate, Unit
from coto.method.schedule import Schedule, Shape, check_steps
from coto.method.strategies import Strategy, make_strategy

NO_DATA_PARALLEL = (
    "model: got torch.nn.DataParallel (one process, several GPUs), expected one process per GPU, "
    "started with torchrun or accelerate: its replicas would not be gated"
)


class ProgressiveTraining:
    """Applies a strategy to a model, one update after the other. Made by `progressive_training`.

    Attributes:
        strategy: what is applied.
        gate: the gate on the model; None for strategies that skip nothing.
        current_step: the update that the next forward and backward pass belong to, from 0.
        total_steps: number of updates of the whole training.
        stop_step: number of updates after which an early-stopped strategy is done, else None.
    """

    def __init__(
        self,
        model: nn.Module,
        strategy: Strategy,
        total_steps: int | None,
        unit: Unit = "block",
        seed: int = 0,
        start_step: int = 0,
    ) -> None:
        if total_steps is None:
            raise ValueError(
                "total_steps: got None, expected the number of optimizer updates of the training "
                "(it is not known for streamed data unless you fix it)"
            )
        check_steps("total_steps", total_steps, minimum=1)
        check_steps("seed", seed, minimum=0)
        check_steps("start_step", start_step, minimum=0)
        self.strategy = strategy
        self.seed = seed
        self.total_steps = total_steps
        self.current_step = start_step
        self.stop_step = strategy.stop_step(total_steps)
        self.gate = AdapterGate(model, unit) if strategy.kind == "skip" else None
        self._dropout = InputDropout(model) if strategy.kind == "element" else None
        if self.gate is not None:
            _check_distributed(model)
            self.gate.attach()

    def step(self) -> None:
        """Go on to the next update; call it after every ``optimizer.step()``."""
        self.go_to(self.current_step + 1)

    def go_to(self, step: int) -> None:
        """Go to update ``step``, counted from 0: all forward passes until the next call are its."""
        self.current_step = step
        if self.gate is not None:
            self.gate.set(self.strategy.flags(self.seed, step, self.total_steps, self.gate.depth))
        rate = self.strategy.dropout_rate(step, self.total_steps)
        if self._dropout is not None and rate is not None:
            self._dropout.set(rate)

    def pause(self) -> None:
        """Make the model whole, as between updates, until the next step."""
        if self.gate is not None:
            self.gate.activate_all()
        if self._dropout is not None:
            self._dropout.restore()

    def close(self) -> None:
        """Make the model whole for good and take all hooks out of it."""
        self.pause()
        if self.gate is not None:
            self.gate.detach()

    @property
    def done(self) -> bool:
        """Whether the last update, or the one that an early stop asks for, is behind us."""
        return self.current_step >= (self.total_steps if self.stop_step is None else self.stop_step)


@contextmanager
def progressive_training(
    model: nn.Module,
    total_steps: int,
    strategy: str | Strategy = "coto",
    schedule: Schedule | Shape = "linear",
    p0: float = 0.1,
    p1: float = 1.0,
    ramp: float = 0.75,
    unit: Unit = "block",
    seed: int = 0,
    start_step: int = 0,
) -> Iterator[ProgressiveTraining]:
    """Train a PEFT model with CoTo in your own loop; the model is whole again on leaving.

    ::

        with progressive_training(model, total_steps=len(batches)) as coto:
            for batch in batches:
                model(**batch).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                coto.step()

    Adapters that are off in an update keep ``.grad`` None if gradients are cleared with
    ``set_to_none=True``, torch's default; with zeroed gradients the optimizer would move them on by
    momentum and weight decay.

    Args:
        model: a PEFT model, or a ``DistributedDataParallel`` around one that was made with
            ``find_unused_parameters=True``.
        total_steps: number of optimizer updates of the whole training. With gradient accumulation,
            all micro-batches of an update share one draw.
        strategy: a name (see `coto.method.strategies.make_strategy`) or a ``Strategy``, which then
            brings its own schedule.
        schedule: ``"linear"``, ``"exponential"``, ``"sine"``, ``"constant"`` or a ``Schedule``,
            which then brings its own ``p0``, ``p1`` and ``ramp``.
        p0: activation probability of the first update.
        p1: final activation probability.
        ramp: share of the updates until ``p1`` is reached.
        unit: what is switched as one: ``"block"``, ``"module"`` or a function of the module's name.
        seed: of the draws. They depend on nothing but (seed, update, groups): use the same one on
            every rank.
        start_step: number of updates already done, to resume.

    Yields:
        A `ProgressiveTraining`; call its ``step()`` after every ``optimizer.step()``.

    Raises:
        ValueError: bad argument, no adapter in the model, or a distributed wrapper that would fail.
    """
    if not isinstance(strategy, Strategy):
        strategy = make_strategy(strategy, schedule, p0, p1, ramp)
    training = ProgressiveTraining(model, strategy, total_steps, unit, seed, start_step)
    try:
        training.go_to(start_step)
        yield training
    finally:
        training.close()


def _check_distributed(model: nn.Module) -> None:
    if isinstance(model, nn.DataParallel):
        raise ValueError(NO_DATA_PARALLEL)
    if isinstance(model, DistributedDataParallel) and not model.find_unused_parameters:
        raise ValueError(
            "model: DistributedDataParallel was made with find_unused_parameters=False, expected "
            "True: adapters that are off in an update get no gradient"
        )
