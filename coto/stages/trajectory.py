"""Stage ``trajectory``: an arm's snapshots over training, scored, merged and pruned."""

import logging
from itertools import combinations
from pathlib import Path
from typing import Any

from coto import record
from coto.adapters.store import read_adapter
from coto.config import paths
from coto.operators.adapter import LowRankAdapter, deltas
from coto.operators.merge import average_heads, fusion
from coto.operators.prune import kept, prune
from coto.stages.evaluation import Evaluator
from coto.stages.job import Job, metric_rows, told
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Score every snapshot as it is, half-way between two seeds, and with every other layer only.

    Merging averages the factors; pruning does both parities (rebuttal, Figure r1).

    Args:
        job: settings of :meth:`coto.config.plan.Plan.trajectory`.
        out: the record; ``share`` is the part of the training that a snapshot was taken after.
    """
    settings = job.settings
    evaluator = Evaluator(job)
    rows: list[dict[str, Any]] = []

    def note(task: str, quantity: str, seeds: str, share: float, change: Any, heads: Any) -> None:
        scores = evaluator.score(task, change, heads)
        log.info("%s, %g, %s, seeds %s: %s", task, share, quantity, seeds, told(scores))
        coordinates = {name: settings[name] for name in ("suite", "adapter", "strategy")}
        rows.extend(
            metric_rows(
                TASKS[task], scores, **coordinates, seeds=seeds, share=share, quantity=quantity
            )
        )

    for task in settings["tasks"]:
        for share in settings["snapshots"]:
            runs: dict[int, LowRankAdapter] = {
                seed: read_adapter(Path(paths.snapshot(str(job.adapter(task, seed)), share)))
                for seed in settings["seeds"]
            }
            base = evaluator.weights(list(next(iter(runs.values())).modules))
            for seed, adapter in runs.items():
                note(task, "single", str(seed), share, deltas(adapter, base), adapter.heads)
                for keep in ("odd", "even"):
                    part = prune(
                        adapter, kept(adapter.modules, keep, settings["backbone"]["projections"])
                    )
                    note(task, f"prune {keep}", str(seed), share, deltas(part, base), part.heads)
            for a, b in combinations(settings["seeds"], 2):
                pair = [runs[a], runs[b]]
                change = deltas(fusion(pair, [0.5, 0.5]), base)
                heads = average_heads(pair, [0.5, 0.5])
                note(task, "merge 1:1", f"{a}-{b}", share, change, heads)
    record.write(out, "trajectory", settings, rows, evaluator.compute.describe(job.threads))
