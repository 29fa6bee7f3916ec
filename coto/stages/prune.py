"""Stage ``prune``: an arm's runs of all tasks, with parts of their adapters removed."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from coto import record
from coto.adapters.store import read_adapter
from coto.operators.adapter import Deltas, LowRankAdapter, deltas
from coto.operators.magnitude import prune_deltas, prune_factors
from coto.operators.prune import kept
from coto.stages.evaluation import Evaluator
from coto.stages.job import Job, metric_rows, told
from coto.tasks.registry import TASKS
from coto.workbench.base import Scores

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Score every run of one seed for every way of pruning.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.prune`.
        out: the record; ``sparsity`` is the share of the adapters, or of their entries, that went.
    """
    settings = job.settings
    evaluator = Evaluator(job)
    arm = {name: settings[name] for name in ("suite", "adapter", "strategy", "seed")}
    rows: list[dict[str, Any]] = []
    for task in settings["tasks"]:
        adapter = read_adapter(job.adapter(task, settings["seed"]))
        base = evaluator.weights(list(adapter.modules))
        change, total = deltas(adapter, base), len(adapter.modules)

        def note(scores: list[Scores], stay: int, **place: Any) -> None:
            place |= {"adapters_kept": stay, "adapters_total": total}  # noqa: B023
            rows.extend(metric_rows(TASKS[task], scores, **arm, **place))  # noqa: B023

        modes = settings["prune"]["keep"]
        stays = [kept(change, keep, settings["backbone"]["projections"]) for keep in modes]
        swept = evaluator.masked(task, change, adapter.heads, stays)
        for keep, stay, scores in zip(modes, stays, swept, strict=True):
            log.info("%s, keep %s: %s", task, keep, told(scores))
            place = {"method": "structured", "keep": keep, "repeat": 0}
            note(scores, len(stay), **place, sparsity=1 - len(stay) / total)
        if settings["prune"]["unstructured"] is None:
            continue
        whole = dict(zip(modes, swept, strict=True)).get("all")
        whole = whole or evaluator.score(task, change, adapter.heads)
        for method, sparsity, repeat, sparse in _sparser(
            adapter, change, base, settings["prune"]["unstructured"]
        ):
            scores = evaluator.score(task, sparse, adapter.heads) if sparsity else whole
            log.info("%s, %s, sparsity %g: %s", task, method, sparsity, told(scores))
            place = {"method": method, "keep": "all", "repeat": repeat}
            note(scores, total, **place, sparsity=sparsity)
    record.write(out, "prune", settings, rows, evaluator.compute.describe(job.threads))


def _sparser(
    adapter: LowRankAdapter,
    change: Deltas,
    base: Mapping[str, Tensor],
    settings: Mapping[str, Any],
) -> Iterator[tuple[str, float, int, Deltas]]:
    """Method, sparsity, number of the draw, and ΔW with so many entries of A and B, or its own, 0.

    A method's name says what goes first, of what, and where it is ranked:
    ``magnitude-factors-global``.
    """
    for method in settings["methods"]:
        criterion, entries, scope = method.split("-")
        for repeat in range(settings["repeats"] if criterion == "random" else 1):
            for sparsity in settings["sparsities"]:
                how = (sparsity, scope, criterion, repeat)
                if not sparsity:
                    sparse = change
                elif entries == "factors":
                    sparse = deltas(prune_factors(adapter, *how), base)
                else:
                    sparse = prune_deltas(change, *how)
                yield method, sparsity, repeat, sparse
