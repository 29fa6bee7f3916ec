"""The quantities of a study, and the paper's numbers of them (authors' rebuttal).

They are the score of single runs, of two seeds merged 1:2 and 1:1, of three merged 1:1:1, and after
structured pruning (Table r3, Figures r1 to r3 and r6). Merging averages the factors A and B.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from coto.report.paper import PaperValue, paper_values
from coto.report.tables import PAPER_ARMS

Form = Literal["strategies", "rates", "schedules", "lengths"]

GENERALIZATION, HALF, EVERY_OTHER = "generalization", "merging 1:1", "pruning everyother"
PRUNING = "pruning"  # the mean over the structured prunings
# The quantities that the table shows, in order; figures need those of `MODES` as well.
SHOWN = (GENERALIZATION, "merging 1:2", HALF, "merging 1:1:1", PRUNING, EVERY_OTHER)
# Labels of the two panels of bars, each with its quantity.
RATIOS = {"0:1": GENERALIZATION, **{r: f"merging {r}" for r in ("1:2", "1:1", "1:1:1")}}
_KEPT = ("all", "everyother", "low", "middle", "high", "query", "key", "value")
MODES = {keep: f"pruning {keep}" for keep in _KEPT}
# What the figures over the training and over learning rates show.
CURVES = (GENERALIZATION, HALF, EVERY_OTHER)

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
    if form == "rates":
        made = _curves("dtd_lr_sweep", PAPER_ARMS, "lr", 1)
    elif form == "schedules":
        made = _curves("dtd_schedule_curve", _SCHEDULES, "share", _STEPS)
    else:
        made = _of_strategies()
    lines = pd.DataFrame(made)
    lines = lines.drop_duplicates(["strategy", "task", "lr", "share", "quantity"])
    return lines.assign(label=[f"paper: LoRA on CLIP ViT-B/16, {task}" for task in lines["task"]])


def _line(
    strategy: str, task: str, quantity: str, value: PaperValue, **place: float
) -> dict[str, Any]:
    where = {"strategy": strategy, "task": task, "lr": np.nan, "share": np.nan} | place
    std = np.nan if value.std is None else value.std / 100
    number = {"quantity": quantity, "mean": value.value / 100, "std": std}
    return {**where, **number, "quality": value.quality, "source": value.source}


def _of_strategies() -> Iterator[dict[str, Any]]:
    table = paper_values("vision_strategies")
    for strategy, method in _TABLE.items():
        for task in ("DTD", "UCF101"):
            for quantity in (GENERALIZATION, HALF, EVERY_OTHER):
                yield _line(strategy, task, quantity, table[task, method, f"{quantity} acc(%)"])
    ratios, modes = paper_values("dtd_merging_ratio"), paper_values("dtd_pruning")
    for strategy, method in _FIGURES.items():
        for labels, values in ((RATIOS, ratios), (MODES, modes)):
            for label, quantity in labels.items():
                if value := values.get((label, method, _PERCENT)):
                    yield _line(strategy, "DTD", quantity, value)
        pruned = [modes[keep, method, _PERCENT] for keep in MODES if keep != "all"]
        mean = sum(value.value for value in pruned) / len(pruned) / 100
        yield _line(strategy, "DTD", "pruning", pruned[0]) | {"mean": mean, "std": np.nan}


def _curves(
    experiment: str, names: Mapping[str, str], column: str, unit: float
) -> Iterator[dict[str, Any]]:
    """Curves over learning rates (``lr=0.001``) or updates (``step=1600``, in units of `unit`)."""
    for quantity, name in _CURVES.items():
        for (place, method, _), value in paper_values(f"{experiment}_{name}").items():
            at = {column: float(place.partition("=")[2]) / unit}
            for strategy in (strategy for strategy, known in names.items() if known == method):
                yield _line(strategy, "DTD", quantity, value, **at)
