"""CoTo in a training: a callback for the Hugging Face Trainer, a context manager for a loop."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback, TrainerState

from coto.method.gate import AdapterGate, Unit, adapter_layers, trained_adapters
from coto.method.schedule import Schedule, Shape, check_steps
from coto.method.strategies import Strategy, make_strategy

NO_DATA_PARALLEL = (
    "model: got torch.nn.DataParallel (one process, several GPUs), expected one process per GPU, "
    "started with torchrun or accelerate: its replicas would not be gated"
)
NO_STATIC_GRAPH = "every update trains other adapters"
NO_GRADIENT = "adapters that are off in an update get no gradient"

# These drop blocks of a rotation.
_NOT_ON_INPUT = ("oft_dropout", "boft_dropout")


class InputDropout:
    """Replaces the input dropout of adapters of a PEFT model; :meth:`restore` puts it back.

    That is a layer's ``*_dropout`` module per adapter (LoRA, DoRA, HiRA, VeRA and more). ValueError
    if no adapter of `coto.method.gate.trained_adapters` has one (LoHa, IA³ and others).
    """

    def __init__(self, model: nn.Module, adapters: Collection[str] | None = None) -> None:
        chosen = trained_adapters(model, adapters)
        self._places: list[tuple[nn.ModuleDict, str, nn.Module, nn.Dropout]] = [
            (modules, adapter, module, nn.Dropout())
            for _, layer in adapter_layers(model)
            for name, modules in layer.named_children()
            if name.endswith("_dropout") and name not in _NOT_ON_INPUT
            if isinstance(modules, nn.ModuleDict)
            for adapter, module in modules.items()
            if adapter in chosen and isinstance(module, nn.Dropout | nn.Identity)
        ]
        if not self._places:
            raise ValueError(
                "strategy: got 'dropout', but these adapters have no input dropout, "
                "expected LoRA, DoRA, HiRA or another tuner with one"
            )

    def set(self, rate: float) -> None:
        """Drop every element of the adapters' inputs with chance ``rate`` in train mode."""
        for modules, adapter, _, ours in self._places:
            ours.p = rate
            modules[adapter] = ours.train(modules.training)

    def restore(self) -> None:
        """Put the model's own dropout modules back."""
        for modules, adapter, original, _ in self._places:
            modules[adapter] = original.train(modules.training)


class ProgressiveTraining:
    """Applies a strategy to a model, one update after the other. Made by `progressive_training`.

    `current_step` is the update, from 0, that the next forward and backward pass belong to;
    `gate` is None for strategies that skip nothing, `stop_step` for those that do not stop early.
    """

    def __init__(
        self,
        model: nn.Module,
        strategy: Strategy,
        total_steps: int | None,
        unit: Unit = "block",
        seed: int = 0,
        start_step: int = 0,
        adapters: Collection[str] | None = None,
    ) -> None:
        if total_steps is None:
            raise ValueError(
                "total_steps: got None, expected the number of optimizer updates of the training "
                "(it is not known for streamed data unless you fix it)"
            )
        check_steps("total_steps", total_steps, minimum=1)
        check_steps("seed", seed, minimum=0)
        check_steps("start_step", start_step, minimum=0)
        self.strategy, self.seed = strategy, seed
        self.total_steps, self.current_step = total_steps, start_step
        self.stop_step = strategy.stop_step(total_steps)
        self.gate = AdapterGate(model, unit, adapters) if strategy.kind == "skip" else None
        self._dropout = InputDropout(model, adapters) if strategy.kind == "element" else None
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


class CoToCallback(TrainerCallback):
    """Trains a PEFT model with CoTo: ``Trainer(..., callbacks=[CoToCallback()])``.

    In every optimizer update the adapters of each transformer block are switched off together with
    probability 1 - p, where p rises from ``p0`` to ``p1`` over the first ``ramp`` of the updates;
    at least one block stays on. Between updates, whenever the Trainer evaluates, predicts, saves or
    logs, and after training the model is whole. The draws are a function of (seed, update) alone: a
    resumed run goes on exactly as if it had never stopped, all ranks draw the same, and the
    micro-batches of an accumulated update share one draw. The result is a plain PEFT adapter.

    Args:
        strategy: a name in `coto.method.strategies.STRATEGIES`; or a ``Strategy``, which then
            brings its own schedule.
        schedule: a shape of `coto.Schedule`, which explains ``p0``, ``p1`` and ``ramp``; or a
            ``Schedule``, which then brings its own.
        unit, adapters: what is switched, as in `coto.AdapterGate`.
        seed: of the draws; None takes the Trainer's ``args.seed``.
        total_steps: number of updates of the whole training; None takes the Trainer's.
        stop_at: stop training, with a checkpoint, once p has reached this (early-stopped CoTo).

    ValueError for a bad argument; and when training begins, for a model without adapters,
    ``torch.nn.DataParallel``, or unused parameters forbidden in distributed training.
    """

    def __init__(
        self,
        strategy: str | Strategy = "coto",
        schedule: Schedule | Shape = Schedule.shape,
        p0: float = Schedule.p0,
        p1: float = Schedule.p1,
        ramp: float = Schedule.ramp,
        unit: Unit = "block",
        seed: int | None = None,
        total_steps: int | None = None,
        stop_at: float | None = None,
        adapters: Collection[str] | None = None,
    ) -> None:
        self.strategy = make_strategy(strategy, schedule, p0, p1, ramp, stop_at=stop_at)
        self.unit, self.adapters = unit, adapters
        self.seed, self.total_steps = seed, total_steps
        self._training: ProgressiveTraining | None = None

    @property
    def gate(self) -> AdapterGate | None:
        """The gate on the model while training, else None."""
        return self._training.gate if self._training else None

    def on_train_begin(
        self, args: Any, state: TrainerState, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Put the gate on the model."""
        self.release()
        if self.strategy.kind == "skip":
            if args.n_gpu > 1:  # the Trainer uses DataParallel
                raise ValueError(NO_DATA_PARALLEL)
            if args.ddp_find_unused_parameters is False:
                raise ValueError(
                    f"ddp_find_unused_parameters: got False, expected None or True: {NO_GRADIENT}"
                )
            if getattr(args, "ddp_static_graph", None):
                raise ValueError(f"ddp_static_graph: got True, expected False: {NO_STATIC_GRAPH}")
        total = state.max_steps if self.total_steps is None else self.total_steps
        seed = args.seed if self.seed is None else self.seed
        self._training = ProgressiveTraining(
            model, self.strategy, total, self.unit, seed, adapters=self.adapters
        )

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Draw the flags of this update; called once per optimizer update."""
        if self._training:
            self._training.go_to(state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Make the model whole before the Trainer evaluates, saves or logs; stop early if asked."""
        if not self._training:
            return
        self._training.pause()
        stop = self._training.stop_step
        if stop is not None and state.global_step >= stop:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the gate off the model."""
        self.release()

    def release(self) -> None:
        """Take the gate off the model, as training does at its end.

        The Trainer has no event for a training that an exception ends: call this before going on to
        train the model without CoTo.
        """
        if self._training:
            self._training.close()
            self._training = None


@contextmanager
def progressive_training(
    model: nn.Module,
    total_steps: int,
    strategy: str | Strategy = "coto",
    schedule: Schedule | Shape = Schedule.shape,
    p0: float = Schedule.p0,
    p1: float = Schedule.p1,
    ramp: float = Schedule.ramp,
    unit: Unit = "block",
    seed: int = 0,
    start_step: int = 0,
    adapters: Collection[str] | None = None,
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

    The model is a PEFT model, or a ``DistributedDataParallel`` around one that was made with
    ``find_unused_parameters=True``. `total_steps` counts the optimizer updates of the whole
    training, `start_step` those already done, to resume; other arguments as in `coto.CoToCallback`.
    ValueError for a bad argument, no adapter, or a distributed wrapper that would fail.
    """
    made = make_strategy(strategy, schedule, p0, p1, ramp)
    training = ProgressiveTraining(model, made, total_steps, unit, seed, start_step, adapters)
    try:
        training.go_to(start_step)
        yield training
    finally:
        training.close()


def _check_distributed(model: nn.Module) -> None:
    if isinstance(model, nn.DataParallel):
        raise ValueError(NO_DATA_PARALLEL)
    if not isinstance(model, DistributedDataParallel):
        return
    made = "model: DistributedDataParallel was made with"
    if model.static_graph:
        raise ValueError(f"{made} static_graph=True, expected False: {NO_STATIC_GRAPH}")
    if not model.find_unused_parameters:
        raise ValueError(f"{made} find_unused_parameters=False, expected True: {NO_GRADIENT}")
