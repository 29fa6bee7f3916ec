"""The weights of all runs with one adapter kind compared with each other."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from coto.config import paths
from coto.config.models import Suite
from coto.config.plan import Plan
from coto.measurements import base
from coto.measurements.select import arm_code
from coto.measurements.train import TRAIN, backbone_files, compute_of, located
from coto.models.settings import Loading
from coto.settings import Model

if TYPE_CHECKING:
    from coto.analysis.geometry import Geometry as Found

Row = dict[str, Any]
log = logging.getLogger(__name__)


class Geometry(Model):
    """Cosines and distances of ΔW between the runs of a suite."""

    tasks: tuple[str, ...] | None = Field(None, min_length=1, description="Null: all.")


class Settings(Model):
    """All runs of an adapter kind on some tasks."""

    suite: str
    adapter: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    grids: dict[str, tuple[str, ...]]
    loading: Loading


def run(job: base.Job[Settings]) -> None:
    """Compare every two runs of a task, of any strategy, rate and seed; and each with its start.

    The other run may be ``pretrained``, W₀ itself, or ``start``, where ΔW = 0.
    """
    from coto.analysis.geometry import geometry
    from coto.models.base import load_model
    from coto.models.weights import base_weights

    settings, loading = job.settings, job.settings.loading
    compute = compute_of(job, loading)
    model = load_model(located(job, loading), compute, 0, job.root / ".cache").model
    rows: list[Row] = []
    runs: list[Row] = [
        {"strategy": strategy, "lr": float(lr), "seed": seed}
        for strategy, grid in settings.grids.items()
        for lr in grid
        for seed in settings.seeds
    ]
    for task in settings.tasks:
        adapters = [job.adapter(_folder(settings, task, run)) for run in runs]
        compared = geometry(adapters, base_weights(model, list(adapters[0].modules)))
        where = {"suite": settings.suite, "trained_on": task, "task": task}
        where |= {"adapter": settings.adapter}
        rows += [{**where, **row} for row in _rows(runs, compared)]
        log.info("%s: %d runs compared", task, len(runs))
    job.write("geometry", rows, compute.describe(job.threads))


def _folder(settings: Settings, task: str, run: Row) -> str:
    lr, seed = paths.number(run["lr"]), str(run["seed"])
    cell = base.Cell(settings.suite, "", task, settings.adapter, run["strategy"], lr, seed)
    return TRAIN.path(cell, "adapter")


def _rows(runs: list[Row], found: "Found") -> Iterator[Row]:
    """Every run beside where it started and every later one of the list."""
    none = {"other_lr": 0.0, "other_seed": -1, "distance": 0.0}
    for i, run in enumerate(runs):
        pretrained = {"cosine": found.pretrained_cosine[i]}
        pretrained |= {"euclidean": found.pretrained_euclidean[i]}
        yield {**run, **none, "other_strategy": "pretrained", **_floats(pretrained)}
        start = {"cosine": 0.0, "euclidean": found.norm[i]}
        yield {**run, **none, "other_strategy": "start", **_floats(start)}
        for j in range(i + 1, len(runs)):
            other = {f"other_{name}": value for name, value in runs[j].items()}
            between = {"cosine": found.cosine[i, j], "euclidean": found.euclidean[i, j]}
            yield {**run, **other, **_floats({**between, "distance": found.distance[i, j]})}


def _floats(values: Row) -> Row:
    return {name: float(value) for name, value in values.items()}


def _tasks(plan: Plan, suite: str) -> tuple[str, ...]:
    return plan.suites[suite].need(Geometry).tasks or plan.suites[suite].tasks


def _check(at: str, suite: Suite) -> Iterator[str]:
    if section := suite.section(Geometry):
        yield from base.unknown_values(f"{at}.geometry.tasks", section.tasks, suite.tasks)


def _grids(plan: Plan, cell: base.Cell) -> dict[str, tuple[str, ...]]:
    strategies = plan.suites[cell.suite].strategies
    return {name: plan.grid(cell.suite, cell.adapter, name) for name in strategies}


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    tasks = _tasks(plan, cell.suite)
    return Settings(
        suite=cell.suite,
        adapter=cell.adapter,
        tasks=tasks,
        seeds=plan.suites[cell.suite].seeds,
        grids=_grids(plan, cell),
        loading=plan.loading(cell.suite, *tasks),
    )


def _inputs(plan: Plan, cell: base.Cell) -> base.Inputs:
    return {
        "backbone": backbone_files(plan, cell.suite),
        "adapters": [
            TRAIN.path(cell.at(task=task, strategy=name, lr=lr, seed=str(seed)), "adapter")
            for task in _tasks(plan, cell.suite)
            for name, grid in _grids(plan, cell).items()
            for seed in plan.suites[cell.suite].seeds
            for lr in grid
        ],
    }


base.MEASUREMENTS.add(
    base.Measurement(
        name="geometry",
        summary="compare the weights of all runs with an adapter kind",
        settings=Settings,
        section=Geometry,
        off="weights are not compared",
        outputs={"geometry": "{suite}/geometry/{adapter}.json"},
        columns={
            "geometry": base.Columns(
                {**base.ARM, "lr": float, "seed": int}
                | {"other_strategy": str, "other_lr": float, "other_seed": int},
                {"cosine": float, "euclidean": float, "distance": float},
            )
        },
        check=_check,
        blocks=lambda plan, suite: base.all_blocks(suite, adapter=plan.suites[suite].adapters),
        build=_settings,
        inputs=_inputs,
        code=arm_code,
        run=run,
    )
)
