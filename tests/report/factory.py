"""Synthetic records in the format that the stages write, with known effects."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from coto.measurements import columns
from coto.report.settings import Axes

COLUMNS = columns()

TASKS = ("acceptability", "movies", "news", "tweets")
KEEP = ("all", "odd", "even", "low", "middle", "high", "query", "key", "value")
KEPT = {"all": 18, "odd": 9, "even": 9}
# Columns that are the same in all rows, where a measurement has them and nothing else is said.
COMMON = {
    **{"metric": "accuracy", "headline": True, "n": 400, "truncated": 0},
    **{"left_out": 0, "flag": "", "repeat": 0},
    **{"steps": 10, "batch_size": 32, "threads": 2, "device": "cpu"},
}
WEIGHTS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)


def make_records(
    root: Path,
    *,
    tasks: tuple[str, ...] = TASKS,
    adapters: tuple[str, ...] = ("lora", "dora"),
    strategies: tuple[str, ...] = ("vanilla", "coto"),
    seeds: tuple[int, ...] = (0, 1, 2),
    lrs: tuple[float, ...] = (4e-3,),
    single_gain: float = 0.0,
    merge_gain: float = 0.08,
    prune_gain: float = 0.06,
    time_saved: float = 0.08,
    noise: float = 0.01,
    collapsed: bool = False,
    suite: str = "glue",
    trained_on: str | None = None,
    weights: tuple[float, ...] = WEIGHTS,
    share_of_gain: dict[str, float] | None = None,
    snapshots: tuple[float, ...] = (),
    baselines: tuple[str, ...] = (),
    worth: float = 0.3,
    level: float = 0.72,
) -> dict[str, list[Path]]:
    """Write one record per job and return their paths by stage.

    ``share_of_gain`` scales a strategy's gains; ``trained_on`` is the one task that all evaluation
    sets in ``tasks`` belong to; ``worth`` is how far vanilla runs fall without their adapters,
    ``level`` the first task's score. The noise of what was added later is drawn apart.
    """
    rng, more, third = (np.random.default_rng(seed) for seed in (7, 8, 9))
    found: dict[str, list[Path]] = {stage: [] for stage in COLUMNS}

    def write(stage: str, name: str, rows: list[dict[str, Any]], **extra: Any) -> None:
        path = root / f"{suite}-{stage}-{name}.json"
        if stage == "train":  # the answers of a run lie beside its record
            path = path.with_suffix("") / "train.json"
        common = {name: value for name, value in COMMON.items() if name in COLUMNS[stage].types}
        common |= {"seeds": "same"} if stage == "merge" else {}
        rows = [{"trained_on": trained_on or row["task"], **common, **row} for row in rows]
        environment = {"device": "cpu", "hardware": "test machine", "wall_s": 1.0}
        record = {"stage": stage, "settings": {}, "environment": environment, "rows": rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record | extra))
        found[stage].append(path)

    def score(base: float, rng: np.random.Generator = rng) -> float:
        return float(np.clip(round((base + noise * rng.normal()) * 400) / 400, 0, 1))

    levels = {task: level + 0.04 * i for i, task in enumerate(tasks)}
    for adapter in adapters:
        for strategy in strategies:
            coto = (share_of_gain or {}).get(strategy, float(strategy != "vanilla"))
            arm = {"suite": suite, "adapter": adapter, "strategy": strategy}
            for task in tasks:
                here = {**arm, "task": task}
                for seed in seeds:
                    for i, lr in enumerate(lrs):
                        top = levels[task] + single_gain * coto - 0.03 * abs(i - len(lrs) // 2)
                        flag = "collapsed" if collapsed and task == tasks[0] and seed == 0 else ""
                        run = {**here, "lr": lr, "seed": seed, "n": 400, "flag": flag}
                        rows = [
                            {**run, "split": split, "metric": metric, "value": score(top - drop)}
                            | {"headline": metric == "accuracy"}
                            for split in ("validation", "test")
                            for metric, drop in (("accuracy", 0.0), ("f1", 0.02))
                        ]
                        name = f"{task}-{adapter}-{strategy}-{lr:g}-{seed}"
                        write("train", name, rows, training={"steps": 300})
                        bare = {k: v for k, v in run.items() if k != "flag"}
                        bare |= {"split": "test", "value": score(levels[task] - worth, third)}
                        write("none", name, [bare])
                    rows = [
                        {**here, "seed": seed, "keep": keep, "method": "structured"}
                        | {"sparsity": 1 - KEPT.get(keep, 6) / 18}
                        | {"adapters_kept": KEPT.get(keep, 6), "adapters_total": 18}
                        | {
                            "value": score(levels[task])
                            if keep == "all"
                            else score(levels[task] - 0.13 + prune_gain * coto)
                        }
                        for keep in KEEP
                    ]
                    write("prune", f"{task}-{adapter}-{strategy}-{seed}", rows)
                if len(lrs) > 1:
                    rows = [
                        {**here, "lr": lr, "seed": seed}
                        | {"value": 0.7, "selected": lr == lrs[len(lrs) // 2]}
                        for lr in lrs
                        for seed in seeds
                    ]
                    write("select", f"{task}-{adapter}-{strategy}", rows)
                for i, a in enumerate(seeds):
                    for b in seeds[i + 1 :]:
                        rows = []
                        for operator, sag in (("fusion", 0.18), ("ensemble", 0.08)):
                            for w in weights:
                                dip = 4 * w * (1 - w) * (sag - merge_gain * coto * sag / 0.18)
                                rows.append(
                                    {**here, "seeds": f"{a}-{b}", "operator": operator, "weight": w}
                                    | {"value": score(levels[task] - dip)}
                                )
                        write("interpolate", f"{task}-{adapter}-{strategy}-{a}-{b}", rows)
            if len(seeds) == 3:
                rows = [
                    {**arm, "task": task, "seeds": "-".join(map(str, seeds))}
                    | {"operator": operator, "weight": 1 / 3}
                    | {"value": score(levels[task] - 0.2 + merge_gain * coto, more)}
                    for operator in ("fusion", "ensemble")
                    for task in tasks
                ]
                write("interpolate", f"{adapter}-{strategy}-all", rows)
            if snapshots:
                write(
                    "trajectory",
                    f"{adapter}-{strategy}",
                    [
                        {**arm, "task": task, "seeds": label, "share": share}
                        | {"quantity": quantity}
                        | {"value": score(0.3 + (levels[task] - 0.3) * share - drop, more)}
                        for task in tasks
                        for share in snapshots
                        for quantity, labels, drop in (
                            ("single", [f"{s}" for s in seeds], 0.0),
                            ("prune odd", [f"{s}" for s in seeds], 0.1 - 0.05 * coto),
                            ("prune even", [f"{s}" for s in seeds], 0.12 - 0.05 * coto),
                            ("merge 1:1", [f"{a}-{b}" for a, b in combinations(seeds, 2)], 0.05),
                        )
                        for label in labels
                    ],
                )
            for seed in seeds:
                rows = [
                    {
                        **arm,
                        "task": task,
                        "seed": seed,
                        "operator": operator,
                        "merged_tasks": len(tasks),
                    }
                    | {"value": score(levels[task] - sag + merge_gain * coto)}
                    for operator, sag in (("fusion", 0.15), ("ensemble", 0.1))
                    for task in tasks
                ]
                write("merge", f"{adapter}-{strategy}-{seed}", rows)
        rows = [
            {"suite": suite, "task": tasks[0], "adapter": adapter, "strategy": strategy}
            | {
                "hardware": "Some CPU @ 2.0 GHz",
                "active_share": 0.66 if strategy != "vanilla" else 1.0,
            }
            | {
                "seconds_per_step": 0.4
                * (1 - (time_saved if strategy != "vanilla" else 0))
                * (1 + 0.005 * rng.normal())
            }
            for _ in range(4)
            for strategy in strategies
        ]
        write("overhead", adapter, rows)
    if baselines:
        write(
            "baseline",
            suite,
            [
                {"suite": suite, "task": task, "method": method} | {"value": 0.5 + 0.01 * (i + j)}
                for i, method in enumerate(baselines)
                for j, task in enumerate(tasks)
            ],
        )
    return found


def axes_of(suite: str, stages: tuple[str, ...] = (), lr: str = "0.004") -> Axes:
    """The axes of a suite as a study's job is given them."""
    grids = dict.fromkeys(("lora-vanilla", "lora-coto"), (lr,))
    return Axes(suite=suite, stages=stages, grids=grids)
