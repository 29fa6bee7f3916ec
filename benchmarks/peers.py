"""This project's training path against what people run: ``python -m benchmarks peers``.

Ways of training the same adapter on the same rows:

- ``fit`` and ``fit, CoTo``: this project's :func:`coto.measurements.training.fit`; ``fit, plain``
  with the fast path (:mod:`coto.fast`) switched off;
- ``docs``: Trainer and PEFT as their quick tours write it: the backbone's own dropout, adapter
  dropout 0.1, rows not cut below the model's limit, random batches padded to their longest row, a
  language model's loss over all tokens, images through torchvision transforms one by one;
- ``README``: that, with the callback and the layer of the authors' README;
- ``fair``: Trainer and PEFT given this project's rows, batches and precision, and no dropout.

A round of a way is one pass over the same rows by one call of ``Trainer.train``; timed is from its
first step's begin to its last step's end, so loading batches counts and starting up does not.
``docs`` loads a language model as the documentation does, in the precision of its files: bf16.
"""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from pydantic import Field
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from benchmarks.common import project, quick_tour
from benchmarks.common.harness import BENCHMARKS, Bench, Benchmark, Row, alternate, wait
from benchmarks.common.steps import PLAIN
from coto import device
from coto.config.plan import Plan
from coto.device import Compute
from coto.measurements.train import Settings as Run
from coto.measurements.training import fit
from coto.models.base import TrainingSet
from coto.models.batches import GroupedTrainer
from coto.settings import Model, Positive
from coto.tasks.registry import TASKS


class Case(Model):
    """What is trained: a task of the default configuration, so many items a step."""

    suite: str
    task: str
    batch: Positive
    steps: Positive = Field(description="Timed steps of a round.")
    blocks: Positive | None = Field(None, description="Only the first so many of the backbone.")


CASES = {
    "text, 8 rows": Case(suite="glue", task="movies", batch=8, steps=24),
    "text, 32 rows": Case(suite="glue", task="movies", batch=32, steps=12),
    "images, 32": Case(suite="images", task="digits", batch=32, steps=24),
    "language, 6 blocks": Case(suite="commonsense", task="snippets", batch=8, steps=8, blocks=6),
    "language, 30 blocks": Case(suite="commonsense", task="snippets", batch=8, steps=4),
}


class Settings(Model):
    """What is trained."""

    cases: dict[str, Case] = Field(CASES, description="What is trained, by name.")
    bf16: bool = Field(True, description="Whether fit and fair are run in bf16 as well.")


def run(bench: Bench[Settings]) -> list[Row]:
    """Rows of each case: how many times as long each way takes as this project's."""
    rows = []
    for name, case in bench.settings.cases.items():
        rows += _case(name, case, bench)
    return rows


def prepare(case: Case, folder: Path) -> tuple[Plan, pd.DataFrame]:
    """The configuration of a case, and the rows that all ways see once."""
    change: dict[str, Any] = {
        "suites": {case.suite: {"train": {"batch_size": case.batch, "steps": case.steps}}}
    }
    plan = project.plan_with(folder / "work", change)
    if case.blocks is not None:
        plan = project.shortened(plan, case.suite, case.blocks)
    # One pass: all ways see the same rows, whatever the order of their lengths.
    return plan, project.rows(plan, case.suite, case.task).head(case.batch * case.steps)


def _case(name: str, case: Case, bench: Bench[Settings]) -> list[Row]:
    plan, rows = prepare(case, bench.folder)
    ways: dict[str, Callable[[], float]] = {}
    for precision in ("fp32", "bf16") if bench.settings.bf16 else ("fp32",):
        compute = device.resolve(bench.compute.device.type, precision)
        end = "" if precision == "fp32" else f", {precision}"
        ours = project.run(plan, case.suite, case.task)
        coto = project.run(plan, case.suite, case.task, strategy="coto")
        ways[f"fit{end}"] = ours_of(plan, ours, rows, compute)
        plain = project.with_fast(ours, PLAIN)
        ways[f"fit, plain{end}"] = ours_of(plan, plain, rows, compute)
        ways[f"fair{end}"] = _fair(plan, ours, rows, compute)
        if precision == "fp32":
            ways["fit, CoTo"] = ours_of(plan, coto, rows, compute)
            ways["docs"] = _docs(plan, ours, rows, compute)
            ways["README"] = _docs(plan, ours, rows, compute, readme=True)
    timings = alternate(ways, bench.rounds)
    pairs = [("docs", "fit"), ("README", "fit, CoTo"), ("fair", "fit"), ("fit, plain", "fit")]
    if bench.settings.bf16:
        pairs += [("fit, plain, bf16", "fit, bf16")]
        pairs += [("docs", "fit, bf16"), ("fair, bf16", "fit, bf16"), ("fair", "fit, bf16")]
    items = case.batch * case.steps
    found = []
    for way, against in pairs:
        row = timings.row(name, way, against)
        speeds = {
            "per_second": items / row["seconds"],
            "per_second_against": items / row["seconds_against"],
        }
        found.append({**row, **speeds})
    return found


class Stopwatch(TrainerCallback):
    """Seconds of a training from its first step's begin to its last step's end."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._begun = self.seconds = math.nan

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start with the first step."""
        if state.global_step == 0:
            wait(self._compute)
            self._begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop at the last one."""
        if state.global_step == state.max_steps:
            wait(self._compute)
            self.seconds = time.perf_counter() - self._begun


def ours_of(plan: Plan, settings: Run, rows: pd.DataFrame, compute: Compute) -> Callable[[], float]:
    """This project's training of a run, as a way."""
    model = project.load(plan, settings, compute, rows)
    data = model.training_set(TASKS[settings.task], rows)
    adapted = project.adapted(model, settings)

    def train() -> float:
        watch = Stopwatch(compute)
        watched = replace(data, callbacks=(*data.callbacks, watch))
        with tempfile.TemporaryDirectory() as folder:
            fit(adapted, watched, settings, compute, Path(folder))
        return watch.seconds

    return train


def _fair(plan: Plan, settings: Run, rows: pd.DataFrame, compute: Compute) -> Callable[[], float]:
    model = project.load(plan, settings, compute, rows)
    data = model.training_set(TASKS[settings.task], rows)
    return _trainer(project.adapted(model, settings), data, settings, compute)


def _docs(
    plan: Plan, settings: Run, rows: pd.DataFrame, compute: Compute, *, readme: bool = False
) -> Callable[[], float]:
    """Trainer and PEFT as their quick tours write it, on the same projections at the same rank."""
    found = quick_tour.model_and_data(plan, settings, rows, compute)
    adapter, names = settings.adapter_settings, settings.loading.backbone.projections
    targets = [names[target] for target in adapter.targets]
    config = LoraConfig(
        task_type=found.peft_task,
        r=adapter.rank,
        lora_alpha=32,
        lora_dropout=0.1,
        target_modules=targets,
        modules_to_save=list(found.heads) or None,
    )
    model = get_peft_model(found.model, config)
    callbacks: list[TrainerCallback] = [ReadmeCallback(model, len(targets))] if readme else []
    data = TrainingSet(found.dataset, found.collate, len(rows), callbacks=tuple(callbacks))
    views = found.peft_task is None  # images: as their page says, what transforms need must stay
    return _trainer(
        model, data, settings, compute, weight_decay=0.01, remove_unused_columns=not views
    )


def _trainer(
    model: PeftModel, data: TrainingSet, settings: Run, compute: Compute, **changes: Any
) -> Callable[[], float]:
    train = settings.train
    kind = GroupedTrainer if data.grouped else Trainer

    def once() -> float:
        watch = Stopwatch(compute)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                max_steps=train.steps or 0,
                per_device_train_batch_size=train.batch_size,
                learning_rate=settings.lr,
                bf16=compute.dtype == torch.bfloat16,
                use_cpu=compute.device.type == "cpu",
                train_sampling_strategy="group_by_length" if data.grouped else "random",
                report_to=[],
                disable_tqdm=True,
                logging_strategy="no",
                save_strategy="no",
                dataloader_pin_memory=compute.device.type == "cuda",
                **changes,
            )
            callbacks = [*data.callbacks, watch]
            trainer = kind(model, arguments, data.collate, data.dataset, callbacks=callbacks)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return watch.seconds

    return once


class ReadmeCallback(TrainerCallback):
    """The rule of the authors' README on PEFT layers.

    After every update each group of as many consecutive layers as a block has projections draws a
    uniform number, all groups again while every number is above the rate; a layer whose group's
    number is above it returns its base layer's output, in evaluation too. The rate rises from 0.1
    to 1 over the first three quarters of the updates.
    """

    def __init__(self, model: nn.Module, per_group: int) -> None:
        self._layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
        self._per_group = per_group
        self._off: dict[BaseTunerLayer, bool] = dict.fromkeys(self._layers, False)
        for layer in self._layers:
            self._wrap(layer)

    def _wrap(self, layer: Any) -> None:
        whole = layer.forward

        def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            skipped = layer.base_layer if self._off[layer] else whole
            return skipped(x, *args, **kwargs)

        layer.forward = forward

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw for the first update."""
        self._draw(0.1)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw for the next update."""
        self._draw(min(0.1 + 0.9 * state.global_step / math.ceil(0.75 * state.max_steps), 1.0))

    def _draw(self, rate: float) -> None:
        while True:
            drawn = torch.rand(len(self._layers) // self._per_group)
            if (drawn <= rate).any():
                break
        for index, layer in enumerate(self._layers):
            self._off[layer] = drawn[index // self._per_group].item() > rate


BENCHMARKS.add(
    Benchmark(
        name="peers",
        summary="training against Trainer + PEFT, as documented and on equal terms",
        settings=Settings,
        quick={
            "cases": {
                "text, 8 rows": {"suite": "glue", "task": "movies", "batch": 8, "steps": 8},
                "images, 32": {"suite": "images", "task": "digits", "batch": 32, "steps": 8},
                "language, 6 blocks": {
                    **{"suite": "commonsense", "task": "snippets", "batch": 8, "steps": 3},
                    "blocks": 6,
                },
            }
        },
        run=run,
    )
)
