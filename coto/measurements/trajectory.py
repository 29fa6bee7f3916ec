"""An arm's snapshots over training, scored, merged and pruned."""

from itertools import combinations
from typing import Any

from coto.config import paths
from coto.config.plan import Plan
from coto.measurements import base
from coto.measurements.select import ArmSettings, arm_code, arm_inputs, arm_settings, trained
from coto.tasks.registry import TASKS


class Settings(ArmSettings):
    """Which snapshots of which seeds."""

    seeds: tuple[int, ...]
    snapshots: tuple[float, ...]


def run(job: base.Job[Settings]) -> None:
    """Score every snapshot as it is, half-way between two seeds, and with every other layer only.

    Merging averages the factors; pruning does both parities (rebuttal, Figure r1). ``share`` is the
    part of the training that a snapshot was taken after.
    """
    from coto.adapters.delta import deltas
    from coto.measurements.evaluation import Evaluator
    from coto.operators.keep import kept, prune
    from coto.operators.merge import average_heads, fusion

    settings, evaluator = job.settings, Evaluator(job)
    rows: list[dict[str, Any]] = []

    def note(task: str, quantity: str, seeds: str, share: float, change: Any, heads: Any) -> None:
        scores = evaluator.score(task, change, heads)
        label = f"{task}, {share:g}, {quantity}, seeds {seeds}"
        place = {"seeds": seeds, "share": share, "quantity": quantity}
        rows.extend(job.score_rows(TASKS[task], scores, label, **settings.arm, **place))

    for task in settings.tasks:
        for share in settings.snapshots:
            runs = {
                seed: job.adapter(paths.snapshot(trained(job, task, seed), share))
                for seed in settings.seeds
            }
            base = evaluator.weights(list(next(iter(runs.values())).modules))
            for seed, adapter in runs.items():
                note(task, "single", str(seed), share, deltas(adapter, base), adapter.heads)
                for keep in ("odd", "even"):
                    stay = kept(adapter.modules, keep, settings.loading.backbone.projections)
                    part = prune(adapter, stay)
                    note(task, f"prune {keep}", str(seed), share, deltas(part, base), part.heads)
            for a, b in combinations(settings.seeds, 2):
                pair = [runs[a], runs[b]]
                change = deltas(fusion(pair, [0.5, 0.5]), base)
                heads = average_heads(pair, [0.5, 0.5])
                note(task, "merge 1:1", f"{a}-{b}", share, change, heads)
    job.write("trajectory", rows, evaluator.compute.describe(job.threads))


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    cfg = plan.suites[cell.suite]
    return Settings(**arm_settings(plan, cell), seeds=cfg.seeds, snapshots=cfg.train.snapshots)


base.MEASUREMENTS.add(
    base.Measurement(
        name="trajectory",
        summary="score an arm's snapshots over training",
        settings=Settings,
        outputs={"trajectory": "{suite}/trajectory/{adapter}-{strategy}.json"},
        columns={"trajectory": base.scores_by(seeds=str, share=float, quantity=str)},
        blocks=lambda plan, suite: (
            base.arm_blocks(plan, suite) if plan.suites[suite].train.snapshots else []
        ),
        build=_settings,
        inputs=lambda plan, cell: arm_inputs(plan, cell, plan.suites[cell.suite].seeds),
        code=arm_code,
        run=run,
    )
)
