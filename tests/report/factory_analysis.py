"""Synthetic records of what is measured beside plain scores: operators, sub-networks, weights."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.report.factory import TASKS

LAYERS, PROJECTIONS = 6, ("query", "key", "value")
MORE_OPERATORS = ("lora-align", "lora-lego", "ties")
METHODS = ("magnitude-factors-global", "random-factors-global")
SPARSITIES = (0.0, 0.5, 0.9)
PROBABILITIES = (0.0, 0.5, 1.0)


def make_analyses(
    root: Path,
    *,
    tasks: tuple[str, ...] = TASKS,
    adapters: tuple[str, ...] = ("lora", "dora"),
    strategies: tuple[str, ...] = ("vanilla", "coto"),
    seeds: tuple[int, ...] = (0, 1, 2),
    suite: str = "glue",
    gain: float = 0.08,
    top_heavy: float = 0.8,
    uneven: float = 0.0,
    lr: float = 4e-3,
) -> dict[str, list[Path]]:
    """Write records of every further stage and return their paths by stage.

    ``gain`` is what CoTo adds to merges, pruned scores and dropped layers. Vanilla's top third of
    layers holds ``top_heavy`` of the contribution and of the gradient, CoTo's a third; seeds differ
    in that contribution by ``uneven``.
    """
    rng = np.random.default_rng(11)
    found: dict[str, list[Path]] = {}

    def write(stage: str, name: str, rows: list[dict[str, Any]], **more: Any) -> None:
        path = root / f"{suite}-{stage}-{name}.json"
        more_of_it = {"seeds": "same"} if stage == "merge" else {}
        rows = [{"trained_on": row["task"], **more_of_it, **row} for row in rows]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"stage": stage, "settings": {}, "rows": rows} | more))
        found.setdefault(stage, []).append(path)

    def noisy(value: float) -> float:
        return float(np.clip(value + 0.01 * rng.normal(), 0, 1))

    score = {"metric": "accuracy", "headline": True, "n": 400, "truncated": 0}
    score |= {"left_out": 0, "flag": ""}
    for adapter in adapters:
        for strategy in (*strategies, *(["coto-early"] if "coto" in strategies else [])):
            coto = strategy.startswith("coto")
            arm = {"suite": suite, "adapter": adapter, "strategy": strategy}
            for seed in seeds:
                name = f"{adapter}-{strategy}-more-{seed}"
                share = top_heavy + uneven * (seed - 1)
                write("subnetworks", name, _subnetworks(arm, tasks, seed, coto, share, noisy))
                if strategy == "coto-early":
                    continue
                rows = [
                    {**arm, **score, "task": task, "seed": seed, "operator": operator}
                    | {"merged_tasks": len(tasks), "repeat": repeat}
                    | {"value": noisy(0.7 + gain * coto)}
                    for operator in MORE_OPERATORS
                    for repeat in range(3 if operator == "lora-lego" else 1)
                    for task in tasks
                ]
                place = {**arm, "task": "all", "seeds": str(seed)}
                gap = {**arm, "seeds": str(seed), "operator": "knots"}
                gap["reason"] = f"knots: not defined for {adapter}: a reason"
                write("merge", name, rows, measured=_measured(place, coto), gaps=[gap])
                rows = [
                    {**arm, **score, "task": task, "seed": seed, "method": method, "keep": "all"}
                    | {"sparsity": sparsity, "repeat": repeat}
                    | {"adapters_kept": 18, "adapters_total": 18}
                    | {"value": noisy(0.85 - (0.3 - gain * coto) * sparsity)}
                    for method in METHODS
                    for repeat in range(2 if method.startswith("random") else 1)
                    for sparsity in SPARSITIES
                    for task in tasks
                ]
                write("prune", name, rows)
                for task in tasks:
                    run = {**arm, "task": task, "lr": lr, "seed": seed}
                    rows = [
                        {**run, "stack": "bert.encoder.layer", "layer": layer, "share": share}
                        | {"norm": norm, "norm_active": norm * (2 if coto else 1)}
                        | {"steps_active": 5 if coto else 10, "steps": 10}
                        for layer, part in enumerate(_parts(coto, top_heavy))
                        for share in (0.25, 0.75)
                        for norm in (part * (1 + share),)
                    ]
                    write("gradients", f"{name}-{task}", rows)
            if strategy == "coto-early":
                continue
            for a, b in combinations(seeds, 2):
                pair = {**arm, "seeds": f"{a}-{b}"}
                rows = [
                    {**pair, **score, "task": task, "operator": operator, "weight": 0.5}
                    | {"repeat": repeat, "value": noisy(0.75 + gain * coto)}
                    for operator in MORE_OPERATORS
                    for repeat in range(3 if operator == "lora-lego" else 1)
                    for task in tasks
                ]
                measured = [m for task in tasks for m in _measured({**pair, "task": task}, coto)]
                write("interpolate", f"{adapter}-{strategy}-more-{a}-{b}", rows, measured=measured)
        write("geometry", adapter, _geometry(suite, adapter, tasks, strategies, seeds, lr))
    return found


def _parts(coto: bool, top_heavy: float) -> list[float]:
    """How much each layer holds: the top third `top_heavy` of it, or all the same."""
    top = LAYERS // 3
    if coto:
        return [1 / LAYERS] * LAYERS
    return [(1 - top_heavy) / (LAYERS - top)] * (LAYERS - top) + [top_heavy / top] * top


def _measured(place: dict[str, Any], coto: bool) -> list[dict[str, Any]]:
    values = {"gap_before": 2.0 + coto, "gap_after": 0.5, "p_distance": 0.4, "p_norm": 1.9}
    whole = {"module": "", "stack": "", "layer": -1, "repeat": 0}
    align = [
        {**place, "operator": "lora-align", "repeat": 0, "measure": measure, "value": value}
        | {"module": f"bert.encoder.layer.{layer}.attention.self.query"}
        | {"stack": "bert.encoder.layer", "layer": layer}
        for layer in range(LAYERS)
        for measure, value in values.items()
    ]
    totals = [
        {**place, **whole, "operator": operator, "measure": measure, "value": value}
        for operator, measures in (
            ("lora-align", values),
            ("lora-lego", {"variance_within_clusters": 0.3}),
            ("ties", {"svd_error": 0.2}),
        )
        for measure, value in measures.items()
    ]
    return align + totals


def _subnetworks(
    arm: dict[str, Any],
    tasks: tuple[str, ...],
    seed: int,
    coto: bool,
    top_heavy: float,
    noisy: Any,
) -> list[dict[str, Any]]:
    rows = []
    for task in tasks:
        here = {**arm, "task": task, "seed": seed, "evaluations": 64}
        nobody = {"player": "", "stack": "", "layer": -1, "projection": ""}
        for measure, total in (("score", 0.3), ("loss", 0.6)):
            place = {**here, "analysis": "shapley", "measure": measure, "x": 0.0, "error": 0.002}
            rows += [
                {**place, "player": f"encoder.layer.{layer}", "stack": "bert.encoder.layer"}
                | {"layer": layer, "projection": "", "value": total * part}
                for layer, part in enumerate(_parts(coto, top_heavy))
            ]
            rows.append({**place, **nobody, "player": "total", "value": total})
            rows += [
                {**here, **nobody, "analysis": "stability", "measure": measure, "x": q}
                | {"error": 0.004, "value": noisy(value)}
                for q in PROBABILITIES
                for value in (0.5 + 0.3 * q ** (0.5 if coto else 2),)
            ]
        rows += [
            {**here, **nobody, "analysis": "theorem", "measure": measure, "x": p}
            | {"error": 0.0, "value": 0.9 - 0.5 * p - (0.2 if bound else 0) * p * (1 - p)}
            for p in PROBABILITIES
            for measure, bound in (("expected", 0), ("mean-outputs", 1), ("mean-weights", 1))
        ]
    return rows


def _geometry(
    suite: str,
    adapter: str,
    tasks: tuple[str, ...],
    strategies: tuple[str, ...],
    seeds: tuple[int, ...],
    lr: float,
) -> list[dict[str, Any]]:
    rows = []
    for task in tasks:
        runs = [(strategy, seed) for strategy in strategies for seed in seeds]
        for index, (strategy, seed) in enumerate(runs):
            here = {"suite": suite, "task": task, "adapter": adapter, "strategy": strategy}
            here |= {"lr": lr, "seed": seed}
            none = {"other_lr": 0.0, "other_seed": -1}
            rows += [
                {**here, **none, "other_strategy": other, "cosine": 0.0}
                | {"euclidean": far, "distance": 4 * far}
                for other, far in (
                    ("pretrained", 10.5),
                    ("start", 1.5 + 0.5 * (strategy == "coto")),
                )
            ]
            for other_strategy, other_seed in runs[index + 1 :]:
                cosine = 0.7 if seed == other_seed else 0.15
                far = 1.3 if seed == other_seed else 2.0
                rows.append(
                    {**here, "other_strategy": other_strategy, "other_lr": lr}
                    | {"other_seed": other_seed, "cosine": cosine}
                    | {"euclidean": far, "distance": 4 * far + 0.1 * other_seed}
                )
    return rows


def write_answers(train: list[Path], *, items: int = 60, gain: float = 0.1) -> None:
    """What every run of these records answered, beside them, as the stage ``train`` leaves it."""
    for path in train:
        row = json.loads(path.read_text())["rows"][0]
        rng = np.random.default_rng([*row["task"].encode(), row["seed"]])
        hard = rng.random(items)
        right = hard < 0.7 + gain * (row["strategy"] == "coto")
        frame = pd.DataFrame(
            {"idx": np.arange(items), "answer": 1, "prediction": right.astype(int)}
        )
        frame.assign(correct=right, task=row["task"]).to_parquet(
            path.with_name("answers.parquet"), index=False
        )
