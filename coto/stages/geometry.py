"""Stage ``geometry``: the weights of all runs with one adapter kind compared with each other."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coto import device, record
from coto.adapters.store import read_adapter
from coto.analysis.geometry import Geometry, geometry
from coto.config import paths
from coto.stages.job import Job
from coto.workbench.changed import base_weights

Row = dict[str, Any]
log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Compare every two runs of a task, of any strategy, rate and seed; and each with its start.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.geometry`.
        out: the record. The other run may be ``pretrained``, W₀ itself, or ``start``, where ΔW = 0.
    """
    settings = job.settings
    compute = device.resolve(settings["device"], settings["precision"])
    model = job.bench(compute).model
    rows: list[Row] = []
    runs: list[Row] = [
        {"strategy": strategy, "lr": float(lr), "seed": seed}
        for strategy, grid in settings["grids"].items()
        for lr in grid
        for seed in settings["seeds"]
    ]
    for task in settings["tasks"]:
        adapters = [read_adapter(_folder(job, task, run)) for run in runs]
        found = geometry(adapters, base_weights(model, list(adapters[0].modules)))
        where = {"suite": settings["suite"], "trained_on": task, "task": task}
        where |= {"adapter": settings["adapter"]}
        rows += [{**where, **row} for row in _rows(runs, found)]
        log.info("%s: %d runs compared", task, len(runs))
    record.write(out, "geometry", settings, rows, compute.describe(job.threads))


def _folder(job: Job, task: str, run: Row) -> Path:
    at = (job.settings["suite"], task, job.settings["adapter"], run["strategy"])
    return job.root / paths.adapter_weights(paths.run(*at, paths.number(run["lr"]), run["seed"]))


def _rows(runs: list[Row], found: Geometry) -> Iterator[Row]:
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
