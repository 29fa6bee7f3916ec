"""The project's own models, rows and jobs, as benchmarks use them."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from peft import PeftModel

from coto.config import paths
from coto.config.plan import Plan
from coto.device import Compute
from coto.measurements import MEASUREMENTS
from coto.measurements.base import Cell, Job
from coto.measurements.train import Settings as Run
from coto.measurements.train import located, prototype_files, prototype_rows
from coto.measurements.training import add_adapter
from coto.models.base import TaskModel, load_model
from coto.models.settings import Fast
from coto.workflow.load import overlay, validate

ROOT = Path(__file__).resolve().parents[2]


def default() -> dict[str, Any]:
    """The default configuration, as it is written."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    return raw


def plan_with(folder: Path, *changes: dict[str, Any]) -> Plan:
    """The default configuration with changes, and with its rows in a folder of benchmarks."""
    raw = default()
    for change in ({"results": str(folder)}, *changes):
        raw = overlay(raw, change)
    return validate(raw)


def job(plan: Plan, name: str, cell: Cell) -> Job[Any]:
    """A measurement's job as the workflow would start it."""
    measurement, root = MEASUREMENTS[name], Path(plan.config.results)
    outputs = {output: root / measurement.path(cell, output) for output in measurement.outputs}
    return Job(measurement.build(plan, cell), root, outputs, torch.get_num_threads())


def run(plan: Plan, suite: str, task: str, adapter: str = "lora", strategy: str = "vanilla") -> Run:
    """Settings of one training run at its first learning rate."""
    lr = plan.grid(suite, adapter, strategy)[0]
    settings: Run = MEASUREMENTS["train"].build(
        plan, Cell(suite, "", task, adapter, strategy, lr=lr, seed="0")
    )
    return settings


def with_fast(settings: Run, fast: Fast) -> Run:
    """The run with other ways to save time."""
    train = settings.train.model_copy(update={"fast": fast})
    loading = settings.loading.model_copy(update={"train": train})
    return settings.model_copy(update={"loading": loading})


def rows(plan: Plan, suite: str, task: str, split: str = "train") -> pd.DataFrame:
    """Prepared rows of a task, made as the workflow makes them where they are not there yet."""
    root, cell = Path(plan.config.results), Cell(suite=suite, task=task)
    path = root / paths.data(suite, task, split)
    if not path.is_file():
        for needed in MEASUREMENTS["prepare"].inputs(plan, cell).get("corpora", []):
            _make(plan, "corpora", Cell(), root / needed)
        _make(plan, "prepare", cell, path)
    for needed in prototype_files(plan, suite, [task]):
        _make(plan, "prototypes", cell, root / needed)
    return pd.read_parquet(path)


def backbone(plan: Plan, suite: str) -> None:
    """Convert a suite's backbone where that has to be done first and was not."""
    cell = Cell(backbone=plan.suites[suite].backbone)
    if plan.config.backbones[cell.backbone].wheel is not None:
        _make(
            plan, "convert", cell, Path(plan.config.results) / paths.BACKBONE.format(**vars(cell))
        )


def _make(plan: Plan, name: str, cell: Cell, made: Path) -> None:
    if not made.exists():
        MEASUREMENTS[name].run(job(plan, name, cell))


def load(plan: Plan, settings: Run, compute: Compute, task_rows: pd.DataFrame) -> TaskModel:
    """The model of a run, without adapters, ready for its task."""
    from coto.tasks.registry import TASKS

    root = Path(plan.config.results)
    backbone(plan, settings.suite)
    place = Job(settings, root, {})
    model = load_model(located(place, settings.loading), compute, settings.seed, root / ".cache")
    examples = prototype_rows(place, settings.loading, settings.suite, settings.task)
    model.set_task(TASKS[settings.task], task_rows, examples)
    return model


def adapted(model: TaskModel, settings: Run) -> PeftModel:
    """A model with its adapter, as training begins."""
    return add_adapter(model, settings, settings.seed)


def shortened(plan: Plan, suite: str, blocks: int) -> Plan:
    """The plan with only the first so many blocks of a suite's language model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    backbone(plan, suite)
    name, root = plan.suites[suite].backbone, Path(plan.config.results)
    source = root / paths.BACKBONE.format(backbone=name)
    short = root / paths.BACKBONE.format(backbone=f"{name}-{blocks}")
    if not short.exists():
        AutoTokenizer.from_pretrained(source).save_pretrained(short)
        AutoModelForCausalLM.from_pretrained(source, num_hidden_layers=blocks).save_pretrained(
            short
        )
    changed = {
        "backbones": {short.name: {"family": "causal", "path": str(short)}},
        "suites": {suite: {"backbone": short.name}},
    }
    return validate(overlay(plan.config.model_dump(mode="json", exclude_unset=True), changed))
