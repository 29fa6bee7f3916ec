"""What every stage is given, and what stages share in reading it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from coto import record
from coto.config import paths
from coto.config.axes import record_paths
from coto.errors import CotoError
from coto.tasks.registry import TASKS
from coto.tasks.task import Task

if TYPE_CHECKING:
    from coto.device import Compute
    from coto.workbench.base import Scores, Workbench


@dataclass(frozen=True)
class Job:
    """A stage's settings and the place where its inputs and outputs are."""

    settings: Mapping[str, Any]
    root: Path
    """The results folder."""
    threads: int = 1
    code: str = ""
    """Fingerprint of the stage's code."""

    @property
    def task(self) -> Task:
        """The task that the job works on."""
        return TASKS[self.settings["task"]]

    def rows(self, task: str, split: str) -> pd.DataFrame:
        """Prepared rows of one part of a task."""
        path = self.root / paths.data(self.settings["suite"], task, split)
        try:
            return pd.read_parquet(path)
        except OSError as error:
            raise CotoError(f"rows {str(path)!r}: cannot be read ({error})") from None

    def bench(self, compute: "Compute", seed: int = 0) -> "Workbench":
        """The job's backbone, loaded; `seed` is of what is initialised afresh."""
        from coto.workbench.open import open_bench

        backbone = dict(self.settings["backbone"])
        if backbone["wheel"] is not None:
            backbone["path"] = str(self.root / paths.backbone(backbone["name"]))
        here = {"backbone": backbone, "cache": str(self.root / ".cache")}
        return open_bench({**self.settings, **here}, compute, seed)

    def adapter(self, task: str, seed: int) -> Path:
        """The trained adapter of a task and seed, at the arm's chosen learning rate."""
        settings = self.settings
        at = (settings["suite"], task, settings["adapter"], settings["strategy"])
        lrs = settings["lrs"]
        if len(lrs) > 1:
            (lr,) = {
                paths.number(row["lr"])
                for row in record.read(self.root / paths.select_record(*at))["rows"]
                if row["selected"]
            }
        else:
            (lr,) = lrs
        return self.root / paths.adapter_weights(paths.run(*at, lr, seed))

    def records(self) -> dict[str, list[Path]]:
        """Paths of the records that the report reads, by stage."""
        return {
            stage: [self.root / path for path in found]
            for stage, found in record_paths(self.settings["axes"]).items()
        }


def training_rows(job: Job, seed: int) -> pd.DataFrame:
    """The rows that a run trains on: all, or so many per class, drawn with the run's seed."""
    rows, shots = job.rows(job.task.name, "train"), job.settings["shots"]
    if shots is None:
        return rows
    from coto.tasks.shots import draw

    return draw(rows, shots, seed)


def spelled(scores: Mapping[str, float]) -> str:
    """Scores as a person reads them in a log."""
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def told(scores: "Sequence[Scores]") -> str:
    """Scores of several evaluation sets as a person reads them in a log."""
    if len(scores) == 1:
        return spelled(scores[0].metrics)
    return ", ".join(f"{found.task} {found.metrics[found.headline]:.3f}" for found in scores)


def metric_rows(
    trained_on: Task, scores: "Sequence[Scores]", /, **coordinates: Any
) -> list[dict[str, Any]]:
    """One row per evaluation set and metric, as all records have them."""
    return [
        {
            **coordinates,
            "trained_on": trained_on.name,
            "task": found.task,
            "metric": metric,
            "value": value,
            "headline": metric == found.headline,
            "n": found.items["idx"].nunique(),
            "truncated": found.truncated,
            "flag": "collapsed" if found.collapsed else "",
        }
        for found in scores
        for metric, value in found.metrics.items()
    ]
