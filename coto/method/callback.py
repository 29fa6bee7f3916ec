"""CoTo for the Hugging Face Trainer and everything built on it."""

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from coto.method.gate import AdapterGate, Unit
from coto.method.loop import NO_DATA_PARALLEL, ProgressiveTraining
from coto.method.schedule import Schedule, Shape
from coto.method.strategies import Strategy, make_strategy


class CoToCallback(TrainerCallback):
    """Trains a PEFT model with CoTo: ``Trainer(..., callbacks=[CoToCallback()])``.

    In every optimizer update the adapters of each transformer block are switched off together with
    probability 1 - p, where p rises from ``p0`` to ``p1`` over the first ``ramp`` of the updates;
    at least one block stays on. Between updates, that is whenever the Trainer evaluates, predicts,
    saves or logs, the model is whole, and it stays so when training is over. The draws are a
    function of (seed, update) alone: a run resumed with ``resume_from_checkpoint`` goes on exactly
    as if it had never stopped, all ranks draw the same, and the micro-batches of an accumulated
    update share one draw. The trained adapter is a plain PEFT adapter.

    Args:
        strategy: ``"coto"`` or another name of `coto.method.strategies.make_strategy`: vanilla,
            coto-high, coto-low, stochastic-depth, stochastic-depth-linear, dropout,
            progressive-dropout; or a ``Strategy``, which then brings its own schedule.
        schedule: ``"linear"`` (the paper's), ``"exponential"``, ``"sine"``, ``"constant"``; or a
            ``Schedule``, which then brings its own ``p0``, ``p1`` and ``ramp``.
        p0: activation probability of the first update, in [0, 1].
        p1: final activation probability, in [0, 1].
        ramp: share of the updates until ``p1`` is reached, in [0, 1].
        unit: what is switched as one: ``"block"``, ``"module"`` (every adapter alone), or a
            function from a module's qualified name to the name of its group.
        seed: of the draws; None takes the Trainer's ``args.seed``.
        total_steps: number of updates of the whole training; None takes the Trainer's.
        stop_at: stop training, with a checkpoint, once p has reached this value (early-stopped
            CoTo).

    Attributes:
        gate: the `AdapterGate` on the model while training, else None.

    Raises:
        ValueError: bad argument; when training begins, a model without adapters,
            ``torch.nn.DataParallel``, or unused parameters forbidden in distributed training.
    """

    def __init__(
        self,
        strategy: str | Strategy = "coto",
        schedule: Schedule | Shape = "linear",
        p0: float = 0.1,
        p1: float = 1.0,
        ramp: float = 0.75,
        unit: Unit = "block",
        seed: int | None = None,
        total_steps: int | None = None,
        stop_at: float | None = None,
    ) -> None:
        if not isinstance(strategy, Strategy):
            strategy = make_strategy(strategy, schedule, p0, p1, ramp, stop_at=stop_at)
        self.strategy = strategy
        self.unit = unit
        self.seed = seed
        self.total_steps = total_steps
        self._training: ProgressiveTraining | None = None

    @property
    def gate(self) -> AdapterGate | None:
        """The gate on the model while training, else None."""
        return self._training.gate if self._training else None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Put the gate on the model."""
        self.release()
        if self.strategy.kind == "skip" and args.n_gpu > 1:  # the Trainer uses DataParallel
            raise ValueError(NO_DATA_PARALLEL)
        if self.strategy.kind == "skip" and args.ddp_find_unused_parameters is False:
            raise ValueError(
                "ddp_find_unused_parameters: got False, expected None or True: "
                "adapters that are off in an update get no gradient"
            )
        assert model is not None  # the Trainer always passes it
        total = state.max_steps if self.total_steps is None else self.total_steps
        seed = args.seed if self.seed is None else self.seed
        self._training = ProgressiveTraining(model, self.strategy, total, self.unit, seed)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw the flags of this update; called once per optimizer update."""
        if self._training:
            self._training.go_to(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the model whole before the Trainer evaluates, saves or logs; stop early if asked."""
        if not self._training:
            return
        self._training.pause()
        stop = self._training.stop_step
        if stop is not None and state.global_step >= stop:
            control.should_save = control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the gate off the model."""
        self.release()

    def release(self) -> None:
        """Take the gate off the model.

        Training calls it at its end. The Trainer has no event for a training that an exception
        ends; the model evaluates, saves and merges as a whole then too, and the next training with
        a gate starts clean, but call this before going on to train the model without CoTo.
        """
        if self._training:
            self._training.close()
            self._training = None
