"""Stage ``select``: the learning rate of one arm, by its mean validation score over seeds."""

import logging
from pathlib import Path
from statistics import fmean
from typing import Any

from coto import record
from coto.config import paths
from coto.stages.job import Job, spelled

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Choose a learning rate; ties go to the smaller one.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.select`.
        out: the record.
    """
    settings = job.settings
    at = (settings["suite"], settings["task"], settings["adapter"], settings["strategy"])
    scores: dict[str, list[dict[str, Any]]] = {lr: [] for lr in settings["lrs"]}
    for lr in settings["lrs"]:
        for seed in settings["seeds"]:
            path = job.root / paths.train_record(paths.run(*at, lr, seed))
            scores[lr] += [
                row
                for row in record.read(path)["rows"]
                if row["split"] == "validation" and row["headline"]
            ]
    means = {lr: fmean(row["value"] for row in rows) for lr, rows in scores.items()}
    best = min(means, key=lambda lr: (-means[lr], float(lr)))
    log.info("validation %s, chosen %s", spelled(means), best)
    keep = ("suite", "trained_on", "task", "adapter", "strategy", "seed", "metric", "value")
    rows = [
        {**{name: row[name] for name in keep}, "lr": float(lr), "selected": lr == best}
        for lr, found in scores.items()
        for row in found
    ]
    record.write(out, "select", settings, rows)
