"""Stage ``interpolate``: the straight paths between two seeds of an arm, on all tasks."""

import logging
from pathlib import Path

from coto import record
from coto.adapters.store import read_adapter
from coto.operators.merge import average_heads, merge
from coto.stages.evaluation import Evaluator
from coto.stages.job import Job, metric_rows, spelled
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Score the paths in both spaces; heads are interpolated with the adapters.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.interpolate`.
        out: the record.
    """
    settings = job.settings
    seed_a, seed_b = settings["seeds"]
    evaluator = Evaluator(job)
    coordinates = {name: settings[name] for name in ("suite", "adapter", "strategy")}
    coordinates |= {"seed_a": seed_a, "seed_b": seed_b}
    rows = []
    for task in settings["tasks"]:
        pair = [read_adapter(job.adapter(task, seed)) for seed in (seed_a, seed_b)]
        base = evaluator.weights(list(pair[0].modules))
        ends: dict[float, tuple[dict[str, float], int]] = {}  # the same in both spaces
        for space in settings["interpolate"]["spaces"]:
            for weight in settings["interpolate"]["weights"]:
                weights = [1 - weight, weight]
                if weight in ends:
                    scores, count = ends[weight]
                else:
                    change = merge(space, pair, weights, base)
                    scores, count = evaluator.score(task, change, average_heads(pair, weights))
                if weight in (0, 1):
                    ends[weight] = scores, count
                log.info("%s, %s, weight %g: %s", task, space, weight, spelled(scores))
                rows += metric_rows(
                    TASKS[task], scores, count, **coordinates, task=task, space=space, weight=weight
                )
    record.write(out, "interpolate", settings, rows, evaluator.compute.describe(job.threads))
