"""One training run with the Hugging Face Trainer: an adapter, a strategy, a learning rate, a seed.

The two arms of a comparison go through this one function with everything equal but the strategy:
base weights, initial head, initial adapter, data order. ``seed`` determines all three, and the
masks are a function of (seed, step), so a resumed run repeats the uninterrupted one.
"""

import itertools
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from coto.adapters.kinds import peft_config
from coto.config import paths
from coto.config.models import Strategy as StrategySettings
from coto.device import Compute
from coto.fast.prepare import prepared
from coto.measurements.train import Learner, Settings
from coto.method.checkpoint import last_complete_checkpoint
from coto.method.gradients import GradientNorms
from coto.method.loop import CoToCallback, ProgressiveTraining
from coto.method.schedule import count_of
from coto.method.strategies import Strategy, make_strategy
from coto.models.base import TaskModel, TrainingSet
from coto.models.batches import GroupedTrainer
from coto.models.settings import Fast, Training

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A trained model and how its training went."""

    model: PeftModel
    summary: dict[str, Any]
    gradients: list[dict[str, Any]]
    """Gradient norms per block over the training (:meth:`GradientNorms.rows`)."""


def strategy_of(settings: StrategySettings) -> Strategy:
    """The strategy that a config's entry describes."""
    return make_strategy(settings.kind, **settings.model_dump(exclude={"kind", "unit"}))


def add_adapter(model: TaskModel, settings: Learner, seed: int) -> PeftModel:
    """A model with an adapter in its initial state, which `seed` determines."""
    adapter, names = settings.adapter_settings, settings.loading.backbone.projections
    targets = [names[target] for target in adapter.targets]
    torch.manual_seed(seed)
    config = peft_config(adapter, targets, model.heads, model.peft_task)
    return get_peft_model(model.model, config)


@contextmanager
def adapters_off(model: PeftModel) -> Iterator[None]:
    """Inside, a model is as it would be with every adapter removed; its trained head stays.

    PEFT's own ``disable_adapter`` brings the untrained head back as well.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    before = [layer.disable_adapters for layer in layers]
    try:
        for layer in layers:
            # Not enable_adapters(False), which also changes what is trainable.
            layer._disable_adapters = True
        yield
    finally:
        for layer, off in zip(layers, before, strict=True):
            layer._disable_adapters = off


def total_steps(train: Training, rows: int, shots: int | None = None) -> int:
    """Optimizer steps of a run: given, or as many as the epochs or the shots have."""
    if train.steps is not None:
        return train.steps
    if train.steps_per_shot is not None:
        assert shots is not None
        return train.steps_per_shot * shots
    assert train.epochs is not None
    return math.ceil(train.epochs * math.ceil(rows / train.batch_size))


def fit(
    model: PeftModel, data: TrainingSet, settings: Settings, compute: Compute, workspace: Path
) -> Trained:
    """Train a model of :func:`add_adapter` in place.

    It goes on from the last complete checkpoint in `workspace`, which the caller removes later.
    """
    train = settings.train
    steps = total_steps(train, data.rows, settings.shots)
    arguments = TrainingArguments(
        output_dir=str(workspace),
        max_steps=steps,
        per_device_train_batch_size=train.batch_size // train.accumulation,
        gradient_accumulation_steps=train.accumulation,
        learning_rate=settings.lr,
        lr_scheduler_type="cosine_with_min_lr" if train.min_lr else train.decay,
        lr_scheduler_kwargs={"min_lr": train.min_lr} if train.min_lr else None,
        warmup_steps=count_of(train.warmup, steps),
        optim="adamw_torch_fused" if train.fast.fused_optimizer else "adamw_torch",
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        activation_checkpointing=train.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        train_sampling_strategy="group_by_length" if data.grouped else "random",
        bf16=compute.dtype == torch.bfloat16,
        fp16=compute.dtype == torch.float16,
        use_cpu=compute.device.type == "cpu",
        seed=settings.seed,
        data_seed=settings.seed,
        save_steps=train.checkpoint_every,
        save_total_limit=2,
        logging_steps=max(1, steps // 20),
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=compute.device.type == "cuda",
    )
    clock, norms, stop = _Clock(steps), GradientNorms(train.gradients), _StopOnRequest()
    strategy = settings.strategy_settings
    snapshots = {count_of(share, steps): share for share in train.snapshots}
    trainer = GroupedTrainer(
        model=model,
        args=arguments,
        train_dataset=data.dataset,
        data_collator=data.collate,
        callbacks=[
            CoToCallback(strategy_of(strategy), unit=strategy.unit),
            clock,
            norms,
            stop,
            _Snapshots(snapshots, workspace / paths.SNAPSHOTS),
            *data.callbacks,
        ],
    )
    trainer.remove_callback(PrinterCallback)  # prints dictionaries; the clock logs instead
    checkpoint = last_complete_checkpoint(workspace)
    if checkpoint is not None:
        log.info("going on from %s", Path(checkpoint).name)
    with prepared(model, train.fast, compute):
        trainer.train(resume_from_checkpoint=checkpoint)
    if stop.requested and trainer.state.global_step < steps:
        log.warning("asked to end: stopped after step %d of %d", trainer.state.global_step, steps)
        raise SystemExit(128 + signal.SIGTERM)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Trained(
        model,
        {
            "steps": trainer.state.global_step,
            "batch_size": train.batch_size,
            "rows": data.rows,
            "truncated": data.truncated,
            "left_out": data.left_out,
            **data.summary,
            "seconds": round(clock.seconds, 3),
            "seconds_per_step_median": round(clock.median, 5),
            "parameters_trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "loss": losses,
            "final_loss": losses[-1] if losses else None,
        },
        norms.rows(),
    )


class _Snapshots(TrainerCallback):
    """Keeps the adapter as it is after some steps."""

    def __init__(self, shares: Mapping[int, float], folder: Path) -> None:
        self._shares, self._folder = shares, folder

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        share = self._shares.get(state.global_step)
        if share is not None and state.is_world_process_zero:
            kwargs["model"].save_pretrained(self._folder / paths.number(share))


class _StopOnRequest(TrainerCallback):
    """Stops with a checkpoint after the running step when this process is asked to end (SIGTERM).

    A cluster asks so some time before it kills a job that is at its limit or preempted.
    """

    requested = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._request)

    def _request(self, number: int, frame: Any) -> None:
        self.requested = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.requested:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)


class _Clock(TrainerCallback):
    """Times the optimizer steps, and says every few seconds how far training is."""

    def __init__(self, steps: int) -> None:
        self._steps, self._times, self._loss = steps, list[float](), math.nan
        self._begun = self._logged = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time inside optimizer steps, in this process."""
        return sum(self._times)

    @property
    def median(self) -> float:
        """Median seconds of a step."""
        return sorted(self._times)[len(self._times) // 2] if self._times else math.nan

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begun = time.monotonic()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kw: Any
    ) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        self._times.append(now - self._begun)
        if now - self._logged >= 10 or state.global_step == self._steps:
            self._logged, speed = now, len(self._times) / self.seconds
            step = f"step {state.global_step}/{self._steps}"
            log.info("%s  loss %.3f  %.2f steps/s", step, self._loss, speed)


_WARM_UP = 2


class Contestant:
    """One strategy's model with its optimizer and stop watch, beside others on the same batches."""

    def __init__(
        self, name: str, training: ProgressiveTraining, model: PeftModel, lr: float, fast: Fast
    ) -> None:
        self.name, self.training, self.model, self.fast = name, training, model, fast
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr, fused=fast.fused_optimizer)
        self._timed: list[tuple[float, float]] = []

    def means(self, block: int, blocks: int) -> tuple[float, float]:
        """Mean seconds and mean share of active adapters over one block's steps."""
        seconds, active = zip(*self._timed[block::blocks], strict=True)
        return sum(seconds) / len(seconds), sum(active) / len(active)

    def step(self, batch: dict[str, Any], step: int, compute: Compute, *, counted: bool) -> None:
        """One optimizer step at a point of the schedule."""
        self.training.go_to(step)
        _wait(compute)
        begun = time.perf_counter()
        with compute.autocast():
            loss = self.model(**batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        _wait(compute)
        elapsed, gate = time.perf_counter() - begun, self.training.gate
        if counted:
            self._timed.append((elapsed, 1.0 if gate is None else float(gate.active.mean())))


def take_turns(
    contestants: Sequence[Contestant],
    data: TrainingSet,
    batch_size: int,
    timed: int,
    total: int,
    compute: Compute,
) -> None:
    """Let contestants step in turn after a warm-up: `timed` of the schedule's `total` steps."""
    batches = itertools.cycle(_batches(data, batch_size, compute))
    with ExitStack() as stack:
        for contestant in contestants:
            stack.enter_context(prepared(contestant.model, contestant.fast, compute))
        for index in range(-_WARM_UP, timed):
            batch = next(batches)
            step = max(0, int((index + 0.5) * total / timed))
            # Whoever goes first finds colder caches: take turns.
            for contestant in contestants if index % 2 else reversed(contestants):
                contestant.step(batch, step, compute, counted=index >= 0)


def _batches(data: TrainingSet, size: int, compute: Compute) -> list[dict[str, Any]]:
    """Whole batches in the order of the rows, already on the device."""
    count = len(data.dataset)
    starts = range(0, max(1, count - size + 1), size)
    parts = ([data.dataset[i] for i in range(at, min(at + size, count))] for at in starts)
    return [
        {k: tensor.to(compute.device) for k, tensor in data.collate(part).items() if k != "length"}
        for part in parts
    ]


def _wait(compute: Compute) -> None:
    if compute.device.type == "cuda":
        torch.cuda.synchronize()
