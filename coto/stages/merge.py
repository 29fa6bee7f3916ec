"""Stage ``merge``: the adapters of all tasks of a suite merged into one."""

import logging
from pathlib import Path
from typing import Any

from coto import record
from coto.adapters.store import read_adapter
from coto.config import paths
from coto.stages.evaluation import Evaluator
from coto.stages.job import Job, metric_rows, told
from coto.stages.merging import Merger, keep_merged
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Score the merge by each operator on every task, each with its own head.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.merge`.
        out: the record; merges of low rank lie in the folder of the same name, if kept.
    """
    settings = job.settings
    tasks = settings["tasks"]
    adapters = {task: read_adapter(job.adapter(task, settings["seed"])) for task in tasks}
    evaluator = Evaluator(job)
    base = evaluator.weights(list(adapters[tasks[0]].modules))
    shares = settings["merge"]["weights"]
    weights = [shares[task] if shares else 1 / len(tasks) for task in tasks]
    arm = {name: settings[name] for name in ("suite", "adapter", "strategy")}
    merger = Merger(settings, {**arm, "seeds": str(settings["seed"])})
    rows: list[dict[str, Any]] = []
    for name in settings["merge"]["operators"]:
        for repeat, merged in merger.merges(name, list(adapters.values()), weights, base):
            if settings["merging"]["save"] and not repeat:
                folder = Path(paths.merged_adapters(str(out))) / name
                keep_merged(folder, merged, {}, settings["backbone"]["hub"])
            for task in tasks:
                scores = evaluator.score(task, merged.deltas, adapters[task].heads)
                log.info("%s, %s: %s", name, task, told(scores))
                rows += metric_rows(
                    TASKS[task],
                    scores,
                    **arm,
                    seed=settings["seed"],
                    operator=name,
                    repeat=repeat,
                    merged_tasks=len(tasks),
                )
    record.write(
        out,
        "merge",
        settings,
        rows,
        evaluator.compute.describe(job.threads),
        measured=merger.measured,
        gaps=merger.gaps,
    )
