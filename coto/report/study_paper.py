"""The paper's numbers for studies: few-shot CLIP on DTD and UCF101, from the authors' rebuttal."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from coto.report.paper import paper_values
from coto.report.study import CURVES, EVERY_OTHER, GENERALIZATION, HALF, MODES, RATIOS, Form

LABEL = "paper: LoRA on CLIP ViT-B/16, {}"
# Names of the strategies in Table r3 and in Figures r2 and r3.
_TABLE = {
    "vanilla": "Vanilla LoRA",
    "dropout": "Dropout",
    "progressive-dropout": "Progressive Dropout",
    "stochastic-depth": "Stochastic Depth for LoRA",
    "coto": "CoTo",
}
_FIGURES = {
    "vanilla": "Vanilla (p=0)",
    "dropout": "Dropout (p=0.25)",
    "progressive-dropout": "Progressive Dropout (final p=0.25)",
    "progressive-dropout-0": "Progressive Dropout (final p=0)",
    "coto": "LoRA-CoTo",
}
_SCHEDULES = {"coto": "linear", "coto-exponential": "exponential", "coto-sine": "sine"}
_ARMS = {"vanilla": "LoRA", "coto": "LoRA-CoTo"}
# Updates of the runs whose snapshots Figure r1 shows (500 per shot, 16 shots).
_STEPS = 8000
_CURVES = dict(zip(CURVES, ("generalization", "merging_1:1", "pruning_everyother"), strict=True))
_PERCENT = "accuracy(%)"


def paper_lines(form: Form) -> pd.DataFrame:
    """What the paper has to set beside a study of some form.

    Returns:
        ``strategy, task, lr, share, quantity, mean`` (a fraction), ``quality`` and ``source``. A
        number that both a table and a figure show is the table's. Numbers that are only known as a
        bound are left out.
    """
    made = {"strategies": _strategies, "rates": _rates, "schedules": _schedules}[form]()
    lines = pd.DataFrame(made)
    lines = lines.drop_duplicates(["strategy", "task", "lr", "share", "quantity"])
    return lines.assign(label=[LABEL.format(task) for task in lines["task"]])


def _line(strategy: str, task: str, quantity: str, value: Any, **place: float) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "task": task,
        "lr": np.nan,
        "share": np.nan,
        "quantity": quantity,
        "mean": value.value / 100,
        "std": np.nan if value.std is None else value.std / 100,
        "quality": value.quality,
        "source": value.source,
    } | place


def _strategies() -> list[dict[str, Any]]:
    table = paper_values("vision_strategies")
    lines = [
        _line(strategy, task, quantity, table[task, method, f"{quantity} acc(%)"])
        for strategy, method in _TABLE.items()
        for task in ("DTD", "UCF101")
        for quantity in (GENERALIZATION, HALF, EVERY_OTHER)
    ]
    ratios, modes = paper_values("dtd_merging_ratio"), paper_values("dtd_pruning")
    for strategy, method in _FIGURES.items():
        for shown, values in ((RATIOS, ratios), (MODES, modes)):
            lines += [
                _line(strategy, "DTD", quantity, values[label, method, _PERCENT])
                for label, quantity in shown.items()
                if (label, method, _PERCENT) in values
            ]
        pruned = [values[keep, method, _PERCENT] for keep in MODES if keep != "all"]
        mean = _line(strategy, "DTD", "pruning", pruned[0])
        mean |= {"mean": sum(value.value for value in pruned) / len(pruned) / 100, "std": np.nan}
        lines.append(mean)
    return lines


def _rates() -> list[dict[str, Any]]:
    return [
        _line(strategy, "DTD", quantity, value, lr=float(place.removeprefix("lr=")))
        for quantity, name in _CURVES.items()
        for (place, method, _), value in paper_values(f"dtd_lr_sweep_{name}").items()
        for strategy in _of(_ARMS, method)
    ]


def _schedules() -> list[dict[str, Any]]:
    return [
        _line(strategy, "DTD", quantity, value, share=int(place.removeprefix("step=")) / _STEPS)
        for quantity, name in _CURVES.items()
        for (place, method, _), value in paper_values(f"dtd_schedule_curve_{name}").items()
        for strategy in _of(_SCHEDULES, method)
    ]


def _of(names: Mapping[str, str], method: str) -> list[str]:
    return [strategy for strategy, name in names.items() if name == method]
