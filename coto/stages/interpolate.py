"""Stage ``interpolate``: seeds of an arm mixed, on all tasks."""

import logging
from collections.abc import Sequence
from pathlib import Path

from coto import record
from coto.adapters.store import read_adapter
from coto.operators.merge import average_heads, merge
from coto.stages.evaluation import Evaluator
from coto.stages.job import Job, metric_rows, told
from coto.tasks.registry import TASKS
from coto.workbench.base import Scores

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Score two seeds along the paths in both spaces, or three at their common mean.

    Heads are mixed as the adapters are.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.interpolate`.
        out: the record; ``weight`` is that of the last seed.
    """
    settings = job.settings
    seeds = settings["seeds"]
    mixtures = _mixtures(settings["interpolate"]["weights"], len(seeds))
    evaluator = Evaluator(job)
    coordinates = {name: settings[name] for name in ("suite", "adapter", "strategy")}
    coordinates |= {"seeds": "-".join(map(str, seeds))}
    rows = []
    for task in settings["tasks"]:
        runs = [read_adapter(job.adapter(task, seed)) for seed in seeds]
        base = evaluator.weights(list(runs[0].modules))
        ends: dict[float, list[Scores]] = {}  # the same in both spaces
        for space in settings["interpolate"]["spaces"]:
            for weights in mixtures:
                weight = weights[-1]
                scores = ends.get(weight)
                if scores is None:
                    change = merge(space, runs, weights, base)
                    scores = evaluator.score(task, change, average_heads(runs, weights))
                if weight in (0, 1):
                    ends[weight] = scores
                log.info("%s, %s, weight %.3g: %s", task, space, weight, told(scores))
                rows += metric_rows(TASKS[task], scores, **coordinates, space=space, weight=weight)
    record.write(out, "interpolate", settings, rows, evaluator.compute.describe(job.threads))


def _mixtures(weights: Sequence[float], seeds: int) -> list[list[float]]:
    """Weights of every seed: points of the path between two, the centre of more."""
    if seeds == 2:
        return [[1 - weight, weight] for weight in weights]
    return [[1 / seeds] * seeds]
