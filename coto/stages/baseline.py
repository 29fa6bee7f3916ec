"""Stage ``baseline``: what a suite's tasks give without training, to read the trained scores by."""

import logging
from pathlib import Path

from coto import device, record
from coto.evaluate.chance import chance
from coto.stages.job import Job, metric_rows, told
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)

# Families whose bare models answer: the others have no head before training.
ZERO_SHOT = ("causal", "clip")


def run(job: Job, out: Path) -> None:
    """Score the most frequent answer, guessing and, where there is one, the bare backbone.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.baseline`.
        out: the record.
    """
    settings = job.settings
    compute = device.resolve(settings["device"], settings["precision"])
    zero_shot = settings["backbone"]["family"] in ZERO_SHOT
    bench = job.bench(compute) if zero_shot else None
    rows = []
    for name in settings["tasks"]:
        task, test = TASKS[name], job.rows(name, "test")
        for method, scores in chance(task, job.rows(name, "train"), test).items():
            log.info("%s, %s: %s", name, method, told(scores))
            rows += metric_rows(task, scores, suite=settings["suite"], method=method)
        if bench is not None:
            bench.for_task(task, test)
            scores = bench.score(bench.model, task, test)
            log.info("%s, zero-shot: %s", name, told(scores))
            rows += metric_rows(task, scores, suite=settings["suite"], method="zero-shot")
    record.write(out, "baseline", settings, rows, compute.describe(job.threads))
