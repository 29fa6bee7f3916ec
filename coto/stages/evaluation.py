"""What the stages share that evaluate adapters changed after training."""

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor

from coto import device
from coto.operators.adapter import Deltas
from coto.stages.job import Job
from coto.tasks.registry import TASKS
from coto.workbench.base import Scores
from coto.workbench.changed import base_weights, changed
from coto.workbench.sweep import Mask, sweep


class Evaluator:
    """One backbone, loaded once, that scores weight changes on the test rows of tasks.

    Args:
        job: a stage's job.
        limit: rows of each evaluation set that are used, the first ones; None is all.
    """

    def __init__(self, job: Job, limit: int | None = None) -> None:
        settings = job.settings
        self.compute = device.resolve(settings["device"], settings["precision"])
        self._bench = job.bench(self.compute)
        self._rows = {task: _first(job.rows(task, "test"), limit) for task in settings["tasks"]}

    def weights(self, modules: list[str]) -> dict[str, Tensor]:
        """Base weights W₀ of modules."""
        return base_weights(self._bench.model, modules)

    def score(self, task: str, deltas: Deltas, heads: Mapping[str, Tensor]) -> list[Scores]:
        """Scores on a task's test rows with W₀ + ΔW and these heads, one per evaluation set."""
        entry, rows = TASKS[task], self._rows[task]
        self._bench.for_task(entry, rows)
        with changed(self._bench.model, deltas, heads) as model:
            return self._bench.score(model, entry, rows)

    def sweep(
        self, task: str, change: Deltas, heads: Mapping[str, Tensor], masks: Sequence[Mask]
    ) -> list[list[Scores]]:
        """Scores as of :meth:`score` for each set of modules whose ΔW is on, in the order given.

        See :func:`coto.workbench.sweep.sweep`.
        """
        entry, rows = TASKS[task], self._rows[task]
        self._bench.for_task(entry, rows)
        return sweep(self._bench, entry, rows, change, heads, masks)

    def masked(
        self, task: str, change: Deltas, heads: Mapping[str, Tensor], masks: Sequence[Mask]
    ) -> list[list[Scores]]:
        """The same by every protocol of the task: swept where a sweep gives them all."""
        if self._bench.sweeps_all(self._rows[task]):
            return self.sweep(task, change, heads, masks)
        parts = ({name: change[name] for name in mask} for mask in masks)
        return [self.score(task, part, heads) for part in parts]


def _first(rows: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """The first so many rows of each evaluation set; what the frame says of itself stays."""
    if limit is None:
        return rows
    sets = rows.groupby("set", sort=False) if "set" in rows else rows
    found = sets.head(limit).reset_index(drop=True)
    found.attrs = rows.attrs
    return found
