"""What the merging stages share: operators by name, their draws, what they measure and refuse."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from coto.adapters.write import write_adapter
from coto.errors import CotoError
from coto.operators.adapter import LowRankAdapter
from coto.operators.merged import Merged
from coto.operators.place import place_of
from coto.operators.registry import operator

log = logging.getLogger(__name__)

# Stands for all tasks of a suite, where they are merged into one adapter.
ALL_TASKS = "all"


class Merger:
    """Applies a job's operators to adapters.

    Args:
        settings: of the job: ``operators``, all settings by operator; ``merging``.
        coordinates: of the job, for the lists below.

    Attributes:
        measured: What the operators measured on their way, one row per measure, of the whole
            adapter and of each module.
        gaps: Where an operator is not defined, with the reason.
    """

    def __init__(self, settings: Mapping[str, Any], coordinates: Mapping[str, Any]) -> None:
        self._operators: Mapping[str, dict[str, Any]] = settings["operators"]
        self._repeats: int = settings["merging"]["repeats"]
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

        Args:
            name: of the operator.
            adapters: what is merged.
            weights: the adapters' shares.
            base: base weights W₀ by module name.
            task: what the merge is for, in the list of what was measured.

        Yields:
            The number of the draw, and the merge.
        """
        chosen, settings = operator(name), self._operators[name]
        for repeat in range(self._repeats if chosen.draws(settings) else 1):
            drawn = {**settings, "seed": settings["seed"] + repeat} if repeat else settings
            try:
                merged = chosen(adapters, weights, base, drawn)
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
        for module, found in merged.modules.items():
            stack, layer = place_of(module)
            parts.append(({"module": module, "stack": stack, "layer": layer}, found))
        self.measured += [
            {**self._coordinates, **place, **where, "measure": measure, "value": value}
            for where, found in parts
            for measure, value in found.items()
        ]


def keep_merged(
    folder: Path, merged: Merged, heads: Mapping[str, Tensor], base_model: str | None
) -> None:
    """Save a merge as an ordinary PEFT adapter, if its rank is low; else leave a line in the log.

    Args:
        folder: of the adapter.
        merged: the merge.
        heads: to save with it; none where every task keeps its own.
        base_model: id of the backbone on the hub, for PEFT's file, if it has one.
    """
    if merged.adapter is None:
        log.info("%s: the merge is of full rank, no adapter is kept", folder.name)
        return
    made = merged.adapter
    write_adapter(
        folder, LowRankAdapter(made.kind, made.scaling, made.modules, dict(heads)), base_model
    )
