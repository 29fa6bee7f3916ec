"""Stage ``prune``: an arm's runs of all tasks, with parts of their adapters removed."""

import logging
from pathlib import Path

from coto import record
from coto.adapters.store import read_adapter
from coto.operators.adapter import deltas
from coto.operators.prune import kept, prune
from coto.stages.evaluation import Evaluator
from coto.stages.job import Job, metric_rows, told
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Score every run of one seed for every way of pruning.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.prune`.
        out: the record.
    """
    settings = job.settings
    evaluator = Evaluator(job)
    projections = settings["backbone"]["projections"]
    coordinates = {name: settings[name] for name in ("suite", "adapter", "strategy", "seed")}
    rows = []
    for task in settings["tasks"]:
        adapter = read_adapter(job.adapter(task, settings["seed"]))
        base = evaluator.weights(list(adapter.modules))
        for keep in settings["prune"]["keep"]:
            pruned = prune(adapter, kept(adapter.modules, keep, projections))
            scores = evaluator.score(task, deltas(pruned, base), pruned.heads)
            log.info("%s, keep %s: %s", task, keep, told(scores))
            rows += metric_rows(
                TASKS[task],
                scores,
                **coordinates,
                keep=keep,
                adapters_kept=len(pruned.modules),
                adapters_total=len(adapter.modules),
            )
    record.write(out, "prune", settings, rows, evaluator.compute.describe(job.threads))
