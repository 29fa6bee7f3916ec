"""The learning rate of one arm on one task, and what measures trained arms at their chosen rate."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from coto import record
from coto.adapters.kinds import KINDS
from coto.config import paths
from coto.config.plan import Plan
from coto.measurements import base
from coto.measurements.train import TRAIN, backbone_files, model_code, prototype_files
from coto.models.settings import Loading
from coto.settings import Model
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)


class Settings(Model):
    """An arm's grid of learning rates, as they stand in paths, and the seeds that choose.

    Its runs lie in the folder of the suite `home`.
    """

    suite: str
    home: str
    task: str
    adapter: str
    strategy: str
    lrs: tuple[str, ...]
    seeds: tuple[int, ...]


def run(job: base.Job[Settings]) -> None:
    """Choose a learning rate; ties go to the smaller one."""
    settings = job.settings
    arm = base.Cell(settings.home, "", settings.task, settings.adapter, settings.strategy)
    scores = {
        lr: [
            row
            for seed in settings.seeds
            for row in record.read(job.root / TRAIN.path(arm.at(lr=lr, seed=str(seed))))["rows"]
            if row["split"] == "validation" and row["headline"]
        ]
        for lr in settings.lrs
    }
    means = {lr: fmean(row["value"] for row in rows) for lr, rows in scores.items()}
    best = min(means, key=lambda lr: (-means[lr], float(lr)))
    log.info("validation %s, chosen %s", base.spelled(means), best)
    keep = ("trained_on", "task", "adapter", "strategy", "seed", "metric", "value")
    rows = [
        {
            "suite": settings.suite,
            **{name: row[name] for name in keep},
            "lr": float(lr),
            "selected": lr == best,
        }
        for lr, of_rate in scores.items()
        for row in of_rate
    ]
    job.write("select", rows)


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    return Settings(
        suite=cell.suite,
        home=plan.home(cell.suite),
        task=cell.task,
        adapter=cell.adapter,
        strategy=cell.strategy,
        lrs=plan.grid(cell.suite, cell.adapter, cell.strategy),
        seeds=plan.selection_seeds(cell.suite),
    )


def _blocks(plan: Plan, suite: str) -> list[base.Block]:
    cfg = plan.suites[suite]
    return [
        {"suite": [suite], "adapter": [adapter], "strategy": [strategy], "task": cfg.tasks}
        for adapter in cfg.adapters
        for strategy in cfg.strategies
        if len(plan.grid(suite, adapter, strategy)) > 1
    ]


def _inputs(plan: Plan, cell: base.Cell) -> base.Inputs:
    home = cell.at(suite=plan.home(cell.suite))
    return {
        "records": [
            TRAIN.path(home.at(lr=lr, seed=str(seed)))
            for seed in plan.selection_seeds(cell.suite)
            for lr in plan.grid(cell.suite, cell.adapter, cell.strategy)
        ]
    }


SELECT: base.Measurement[Settings] = base.MEASUREMENTS.add(
    base.Measurement(
        name="select",
        summary="choose an arm's learning rate",
        settings=Settings,
        outputs={"select": "{suite}/{task}/{adapter}-{strategy}/select.json"},
        columns={
            "select": base.Columns(
                {**base.ARM, "lr": float, "seed": int, "metric": str},
                {"value": float, "selected": bool},
            )
        },
        blocks=_blocks,
        build=_settings,
        inputs=_inputs,
        run=run,
        uses_model=False,
    )
)


# --- measurements of trained arms --------------------------------------------------------------


class ArmSettings(Model):
    """An arm's trained runs on some tasks, and the model that scores them changed.

    Runs and rows lie in the folder of the suite `home`.
    """

    suite: str
    home: str
    adapter: str
    strategy: str
    tasks: tuple[str, ...]
    entries: tuple[dict[str, Any], ...]
    kind: dict[str, Any]
    lrs: tuple[str, ...]
    loading: Loading

    @property
    def arm(self) -> dict[str, str]:
        """Coordinates of every row."""
        return {"suite": self.suite, "adapter": self.adapter, "strategy": self.strategy}


def trained(job: base.Job[Any], task: str, seed: int) -> str:
    """Folder of the adapter of a task and seed at the arm's chosen learning rate."""
    settings: ArmSettings = job.settings
    arm = base.Cell(settings.suite, "", task, settings.adapter, settings.strategy, seed=str(seed))
    rates: Sequence[str] = settings.lrs
    if len(rates) > 1:
        rows = record.read(job.root / SELECT.path(arm))["rows"]
        rates = sorted({paths.number(row["lr"]) for row in rows if row["selected"]})
    (lr,) = rates
    return TRAIN.path(arm.at(suite=settings.home, lr=lr), "adapter")


def arm_settings(plan: Plan, cell: base.Cell, *only: str) -> dict[str, Any]:
    """Settings of an :class:`ArmSettings`, on some tasks or all."""
    tasks = only or plan.suites[cell.suite].tasks
    return {
        "suite": cell.suite,
        "home": plan.home(cell.suite),
        "adapter": cell.adapter,
        "strategy": cell.strategy,
        "tasks": tasks,
        # The adapter on disk says what it is; its settings would only add reruns.
        "kind": asdict(KINDS[plan.adapter(cell.suite, cell.adapter).kind]),
        "entries": tuple(TASKS[task].scored() for task in tasks),
        "lrs": plan.grid(cell.suite, cell.adapter, cell.strategy),
        # What was trained is scored once with every built-in task, not after every change.
        "loading": plan.loading(cell.suite, *tasks),
    }


def arm_code(plan: Plan, cell: base.Cell) -> list[str]:
    """Code that an arm's model and adapters are looked up by."""
    return [*model_code(plan, cell), KINDS[plan.adapter(cell.suite, cell.adapter).kind].delta]


def arm_inputs(
    plan: Plan, cell: base.Cell, seeds: Iterable[Any], tasks: Iterable[str] | None = None
) -> base.Inputs:
    """An arm's adapters with some seeds, the records that choose among them, and the test rows."""
    tasks = list(tasks or plan.suites[cell.suite].tasks)
    grid, home = plan.grid(cell.suite, cell.adapter, cell.strategy), plan.home(cell.suite)
    return {
        "backbone": backbone_files(plan, cell.suite),
        "adapters": [
            TRAIN.path(cell.at(suite=home, task=task, lr=lr, seed=str(seed)), "adapter")
            for task in tasks
            for seed in seeds
            for lr in grid
        ],
        "chosen": [SELECT.path(cell.at(task=task)) for task in tasks if len(grid) > 1],
        "prototypes": prototype_files(plan, home, tasks),
        "test": [paths.data(home, task, "test") for task in tasks],
    }
