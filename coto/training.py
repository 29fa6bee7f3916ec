"""One training run with the Hugging Face Trainer: an adapter, a strategy, a learning rate, a seed.

The two arms of a comparison go through this one function with everything equal but the strategy:
base weights, initial head, initial adapter, data order. ``seed`` determines all three, and the
masks are a function of (seed, step), so a resumed run repeats the uninterrupted one.
"""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from coto.adapters.kinds import peft_config
from coto.config import paths
from coto.device import Compute
from coto.method.callback import CoToCallback
from coto.method.checkpoint import last_complete_checkpoint
from coto.method.gradients import GradientNorms
from coto.method.strategies import Strategy, make_strategy
from coto.workbench.base import TrainingSet, Workbench

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A trained model and how its training went."""

    model: PeftModel
    summary: dict[str, Any]
    gradients: list[dict[str, Any]]
    """Gradient norms per block over the training (:meth:`GradientNorms.rows`)."""


def strategy_of(settings: Mapping[str, Any]) -> Strategy:
    """The strategy that a config's entry describes (:class:`coto.config.definitions.Strategy`)."""
    names = ("schedule", "p0", "p1", "ramp", "survival", "dropout", "stop_at")
    return make_strategy(settings["kind"], **{name: settings[name] for name in names})


def add_adapter(bench: Workbench, settings: Mapping[str, Any], seed: int) -> PeftModel:
    """The bench's model with an adapter in its initial state, which `seed` determines."""
    adapter, names = settings["adapter_settings"], settings["backbone"]["projections"]
    targets = [names[target] for target in adapter["targets"]]
    torch.manual_seed(seed)
    config = peft_config(adapter, targets, bench.heads, bench.peft_task)
    return get_peft_model(bench.model, config)


def total_steps(train: Mapping[str, Any], rows: int, shots: int | None = None) -> int:
    """Optimizer steps of a run: given, or as many as the epochs or the shots have."""
    if train["steps"] is not None:
        return train["steps"]
    if train["steps_per_shot"] is not None:
        assert shots is not None
        return train["steps_per_shot"] * shots
    return math.ceil(train["epochs"] * math.ceil(rows / train["batch_size"]))


def fit(
    model: PeftModel,
    data: TrainingSet,
    settings: Mapping[str, Any],
    compute: Compute,
    workspace: Path,
) -> Trained:
    """Train, going on from the last complete checkpoint in `workspace` if there is one.

    Args:
        model: from :func:`add_adapter`; trained in place.
        data: the training rows, as the model's bench makes them.
        settings: a run's settings (:meth:`coto.config.plan.Plan.train`).
        compute: device and precision.
        workspace: folder for checkpoints; the caller removes it after success.
    """
    train = settings["train"]
    steps = total_steps(train, data.rows, settings["shots"])
    arguments = TrainingArguments(
        output_dir=str(workspace),
        max_steps=steps,
        per_device_train_batch_size=train["batch_size"] // train["accumulation"],
        gradient_accumulation_steps=train["accumulation"],
        learning_rate=settings["lr"],
        lr_scheduler_type="cosine_with_min_lr" if train["min_lr"] else train["decay"],
        lr_scheduler_kwargs={"min_lr": train["min_lr"]} if train["min_lr"] else None,
        warmup_steps=math.ceil(train["warmup"] * steps),
        weight_decay=train["weight_decay"],
        max_grad_norm=train["max_grad_norm"],
        activation_checkpointing=train["gradient_checkpointing"],
        activation_checkpointing_kwargs={"use_reentrant": False},
        train_sampling_strategy="group_by_length" if data.grouped else "random",
        bf16=compute.dtype == torch.bfloat16,
        fp16=compute.dtype == torch.float16,
        use_cpu=compute.device.type == "cpu",
        seed=settings["seed"],
        data_seed=settings["seed"],
        save_steps=train["checkpoint_every"],
        save_total_limit=2,
        logging_steps=max(1, steps // 20),
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=compute.device.type == "cuda",
    )
    clock, norms = _Clock(steps), GradientNorms(train["gradients"])
    strategy = settings["strategy_settings"]
    snapshots = {math.ceil(share * steps): share for share in train["snapshots"]}
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data.dataset,
        data_collator=data.collate,
        callbacks=[
            CoToCallback(strategy_of(strategy), unit=strategy["unit"]),
            clock,
            norms,
            _Snapshots(snapshots, workspace / paths.SNAPSHOTS),
            *data.callbacks,
        ],
    )
    trainer.remove_callback(PrinterCallback)  # prints dictionaries; the clock logs instead
    checkpoint = last_complete_checkpoint(workspace)
    if checkpoint is not None:
        log.info("going on from %s", Path(checkpoint).name)
    trainer.train(resume_from_checkpoint=checkpoint)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Trained(
        model,
        {
            "steps": trainer.state.global_step,
            "batch_size": train["batch_size"],
            "rows": data.rows,
            "truncated": data.truncated,
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


class _Clock(TrainerCallback):
    """Times the optimizer steps, and says every few seconds how far training is."""

    def __init__(self, steps: int, every: float = 10.0) -> None:
        self._steps = steps
        self._every = every
        self._times: list[float] = []
        self._begun = 0.0
        self._said = time.monotonic()
        self._loss = math.nan

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
        if now - self._said >= self._every or state.global_step == self._steps:
            self._said = now
            log.info(
                "step %d/%d  loss %.3f  %.2f steps/s",
                state.global_step,
                self._steps,
                self._loss,
                len(self._times) / self.seconds,
            )
