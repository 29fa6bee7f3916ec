"""Stage ``merge``: the adapters of all tasks of a suite merged into one."""

import logging
from pathlib import Path

from coto import record
from coto.adapters.store import read_adapter
from coto.operators.merge import merge
from coto.stages.evaluation import Evaluator
from coto.stages.job import Job, metric_rows, told
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Score the merged adapter on every task, each with its own head.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.merge`.
        out: the record.
    """
    settings = job.settings
    tasks = settings["tasks"]
    adapters = {task: read_adapter(job.adapter(task, settings["seed"])) for task in tasks}
    evaluator = Evaluator(job)
    base = evaluator.weights(list(adapters[tasks[0]].modules))
    weights = [
        settings["merge"]["weights"][task] if settings["merge"]["weights"] else 1 / len(tasks)
        for task in tasks
    ]
    rows = []
    for space in settings["merge"]["spaces"]:
        change = merge(space, list(adapters.values()), weights, base)
        for task in tasks:
            scores = evaluator.score(task, change, adapters[task].heads)
            log.info("%s, %s: %s", space, task, told(scores))
            rows += metric_rows(
                TASKS[task],
                scores,
                **{name: settings[name] for name in ("suite", "adapter", "strategy", "seed")},
                space=space,
                merged_tasks=len(tasks),
            )
    record.write(out, "merge", settings, rows, evaluator.compute.describe(job.threads))
