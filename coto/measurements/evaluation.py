"""What the measurements share that evaluate adapters changed after training."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from coto.adapters.delta import Deltas, LowRankAdapter, place_of
from coto.adapters.store import write_adapter
from coto.errors import CotoError
from coto.measurements.base import Job
from coto.measurements.merge import MergingSettings
from coto.measurements.select import ArmSettings
from coto.measurements.train import compute_of, located, prototype_rows
from coto.models.base import Scores, load_model
from coto.models.weights import Mask, base_weights, changed, sweep
from coto.operators.merge import Merged
from coto.operators.operator import OPERATORS
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)

# Stands for all tasks of a suite, where they are merged into one adapter.
ALL_TASKS = "all"


class Evaluator:
    """One backbone, loaded once, that scores weight changes on the test rows of a job's tasks.

    Of each evaluation set the first `limit` rows are used; None is all.
    """

    def __init__(self, job: Job[Any], limit: int | None = None) -> None:
        settings: ArmSettings = job.settings
        self.compute = compute_of(job, settings.loading)
        self._model = load_model(
            located(job, settings.loading), self.compute, 0, job.root / ".cache"
        )
        self._rows = {
            task: _first(job.rows(settings.home, task, "test"), limit) for task in settings.tasks
        }
        self._prototypes = {
            task: prototype_rows(job, settings.loading, settings.home, task)
            for task in settings.tasks
        }

    def weights(self, modules: list[str]) -> dict[str, Tensor]:
        """Base weights W₀ of modules."""
        return base_weights(self._model.model, modules)

    def score(self, task: str, deltas: Deltas, heads: Mapping[str, Tensor]) -> list[Scores]:
        """Scores on a task's test rows with W₀ + ΔW and these heads, one per evaluation set."""
        entry, rows = TASKS[task], self._rows[task]
        self._model.set_task(entry, rows, self._prototypes[task])
        with changed(self._model.model, deltas, heads) as model:
            return self._model.score(model, entry, rows)

    def sweep(
        self, task: str, change: Deltas, heads: Mapping[str, Tensor], masks: Sequence[Mask]
    ) -> list[list[Scores]]:
        """Scores as of :meth:`score` for each set of modules whose ΔW is on, in the order given."""
        entry, rows = TASKS[task], self._rows[task]
        self._model.set_task(entry, rows, self._prototypes[task])
        return sweep(self._model, entry, rows, change, heads, masks)

    def masked(
        self, task: str, change: Deltas, heads: Mapping[str, Tensor], masks: Sequence[Mask]
    ) -> list[list[Scores]]:
        """The same by every protocol of the task: swept where a sweep gives them all."""
        if self._model.replays_all(self._rows[task]):
            return self.sweep(task, change, heads, masks)
        parts = ({name: change[name] for name in mask} for mask in masks)
        return [self.score(task, part, heads) for part in parts]


def _first(rows: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """The first so many rows of each evaluation set; what the frame says of itself stays."""
    if limit is None:
        return rows
    sets = rows.groupby("set", sort=False) if "set" in rows else rows
    first = sets.head(limit).reset_index(drop=True)
    first.attrs = rows.attrs
    return first


class Merger:
    """Applies a job's operators to adapters.

    `measured` is what the operators measured on their way, one row per measure, of the whole
    adapter and of each module; `gaps` where an operator is not defined, with the reason. Both have
    the job's coordinates.
    """

    def __init__(self, settings: MergingSettings, coordinates: Mapping[str, Any]) -> None:
        self._operators, self._repeats = settings.operators, settings.repeats
        self._coordinates = coordinates
        self.measured: list[dict[str, Any]] = []
        self.gaps: list[dict[str, Any]] = []

    def merges(
        self,
        name: str,
        adapters: Sequence[LowRankAdapter],
        weights: Sequence[float],
        base: Mapping[str, Tensor],
        task: str = ALL_TASKS,
    ) -> Iterator[tuple[int, Merged]]:
        """Merge by one operator: once for each of its draws; not at all where it is not defined.

        `weights` are the adapters' shares, `base` the base weights W₀ by module name, `task` what
        the merge is for, among what was measured. Yields the number of the draw, and the merge.
        """
        operator, settings = OPERATORS[name], self._operators[name]
        for repeat in range(self._repeats if operator.draws(settings) else 1):
            drawn = {**settings, "seed": settings["seed"] + repeat} if repeat else settings
            try:
                merged = operator(adapters, weights, base, drawn)
            except CotoError as error:
                gap = {**self._coordinates, "operator": name, "reason": str(error)}
                if gap not in self.gaps:
                    log.warning("%s", error)
                    self.gaps.append(gap)
                return
            self._note(merged, {"task": task, "operator": name, "repeat": repeat})
            yield repeat, merged

    def _note(self, merged: Merged, place: Mapping[str, Any]) -> None:
        whole = {"module": "", "stack": "", "layer": -1}
        parts = [(whole, merged.report)]
        for module, measures in merged.modules.items():
            stack, layer = place_of(module)
            parts.append(({"module": module, "stack": stack, "layer": layer}, measures))
        self.measured += [
            {**self._coordinates, **place, **where, "measure": measure, "value": value}
            for where, measures in parts
            for measure, value in measures.items()
        ]


def keep_merged(
    folder: Path, merged: Merged, heads: Mapping[str, Tensor], base_model: str | None
) -> None:
    """Save a merge as an ordinary PEFT adapter, if its rank is low; else leave a line in the log.

    `heads` are saved with it, none where every task keeps its own; `base_model`, the backbone's id
    on the hub if it has one, is for PEFT's file.
    """
    if merged.adapter is None:
        log.info("%s: the merge is of full rank, no adapter is kept", folder.name)
        return
    made = merged.adapter
    write_adapter(
        folder, LowRankAdapter(made.kind, made.scaling, made.modules, dict(heads)), base_model
    )
