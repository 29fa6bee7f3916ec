"""Stage ``interpolate``: seeds of an arm merged, on all tasks."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coto import record
from coto.adapters.store import read_adapter
from coto.config import paths
from coto.operators.adapter import deltas
from coto.operators.merge import average_heads
from coto.stages.evaluation import Evaluator
from coto.stages.job import Job, metric_rows, told
from coto.stages.merging import Merger, keep_merged
from coto.tasks.registry import TASKS
from coto.workbench.base import Scores

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Score two seeds along the path of each operator, or three at their common mean.

    A path begins and ends at the runs themselves, whatever the operator. Heads are averaged with
    the same weights.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.interpolate`.
        out: the record; ``weight`` is that of the last seed. Merges of low rank with equal weights
            lie in the folder of the same name, if kept.
    """
    settings = job.settings
    seeds = settings["seeds"]
    label = "-".join(map(str, seeds))
    arm = {name: settings[name] for name in ("suite", "adapter", "strategy")}
    evaluator = Evaluator(job)
    merger = Merger(settings, {**arm, "seeds": label})
    rows: list[dict[str, Any]] = []
    for task in settings["tasks"]:
        runs = [read_adapter(job.adapter(task, seed)) for seed in seeds]
        base = evaluator.weights(list(runs[0].modules))
        ends: dict[float, list[Scores]] = {}

        def note(name: str, weight: float, repeat: int, scores: list[Scores]) -> None:
            log.info("%s, %s, weight %.3g: %s", task, name, weight, told(scores))  # noqa: B023
            place = {"seeds": label, "operator": name, "weight": weight, "repeat": repeat}
            rows.extend(metric_rows(TASKS[task], scores, **arm, **place))  # noqa: B023

        for name, weights in _points(settings["interpolate"], len(seeds)):
            weight = weights[-1]
            if weight in (0, 1):
                if weight not in ends:
                    end = runs[-1] if weight else runs[0]
                    ends[weight] = evaluator.score(task, deltas(end, base), end.heads)
                note(name, weight, 0, ends[weight])
                continue
            heads = average_heads(runs, weights)
            for repeat, merged in merger.merges(name, runs, weights, base, task):
                note(name, weight, repeat, evaluator.score(task, merged.deltas, heads))
                if settings["merging"]["save"] and not repeat and len(set(weights)) == 1:
                    folder = Path(paths.merged_adapters(str(out))) / task / name
                    keep_merged(folder, merged, heads, settings["backbone"]["hub"])
    record.write(
        out,
        "interpolate",
        settings,
        rows,
        evaluator.compute.describe(job.threads),
        measured=merger.measured,
        gaps=merger.gaps,
    )


def _points(settings: dict[str, Any], seeds: int) -> Iterator[tuple[str, Sequence[float]]]:
    """Operators with the seeds' weights: along the path of two, in the centre of more."""
    centre = [1 / seeds] * seeds
    for name in settings["operators"]:
        for weight in settings["weights"] if seeds == 2 else [centre[-1]]:
            yield name, [1 - weight, weight] if seeds == 2 else centre
    for name in settings["halfway"]:
        if name not in settings["operators"]:
            yield name, centre
