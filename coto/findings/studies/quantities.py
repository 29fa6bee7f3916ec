"""The quantities of a study out of its records, and the paper's numbers of them (rebuttal).

They are the score of single runs, of two seeds merged 1:2 and 1:1, of three merged 1:1:1, and after
structured pruning (Table r3, Figures r1 to r3 and r6). Merging averages the factors A and B.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from coto.config import paths
from coto.findings.merging.quantities import midpoints, thirds, three_way
from coto.findings.pruning import pruned_mean, structured
from coto.report import quantities
from coto.report.paper import PaperValue, paper_values
from coto.report.quantities import ARM, headline
from coto.report.records import Frames
from coto.report.settings import Axes
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


# --- what the records say -------------------------------------------------------------------------

_SNAPSHOTS = {
    **{"single": GENERALIZATION, "merge 1:1": HALF},
    **{"prune odd": EVERY_OTHER, "prune even": EVERY_OTHER},
}
_COLUMNS = [*ARM, "lr", "share", "quantity", "seed", "value", "flag"]


def form_of(axes: Sequence[Axes]) -> Form:
    """What varies in a study, from the axes of its suites."""
    if any(suite.share is not None for suite in axes):
        return "lengths"
    if any("trajectory" in suite.stages for suite in axes):
        return "schedules"
    return "rates" if len(axes) > 1 else "strategies"


def rate_of(suite: Axes) -> float:
    """The learning rate that all arms of a suite have in common; NaN where they have several."""
    rates = {float(rate) for grid in suite.grids.values() for rate in grid}
    return rates.pop() if len(rates) == 1 else float("nan")


def values_of(frames: Frames, axes: Sequence[Axes]) -> pd.DataFrame:
    """One value per (suite, task, adapter, strategy, share, quantity, seed)."""
    frames = {**frames, "train": runs_of(frames["train"], axes)}
    path, prune = frames["interpolate"], frames["prune"]
    merged = {"merging 1:2": thirds(path), HALF: midpoints(path), "merging 1:1:1": three_way(path)}
    scores = {
        GENERALIZATION: quantities.single_scores(frames),
        **{name: rows[rows["operator"] == "fusion"] for name, rows in merged.items()},
        PRUNING: pruned_mean(prune),
    }
    # Both parities of every other layer count as one, as elsewhere.
    modes = structured(prune)
    kinds = modes["keep"].replace({"odd": "everyother", "even": "everyother"})
    for kind, rows in modes.assign(keep=kinds).groupby("keep"):
        scores[f"pruning {kind}"] = rows.groupby([*ARM, "seed"])["value"].mean().reset_index()
    parts = [rows.assign(quantity=name, share=np.nan) for name, rows in scores.items() if len(rows)]
    if len(frames["trajectory"]):
        rows = quantities.labelled(headline(frames["trajectory"]))
        rows = rows.assign(quantity=rows["quantity"].map(_SNAPSHOTS))
        place = [*ARM, "share", "quantity", "seed"]
        parts.append(rows.groupby(place)["value"].mean().reset_index())
    every = pd.concat(parts).reindex(columns=_COLUMNS)
    return every.assign(flag=every["flag"].fillna("")).reset_index(drop=True)


def runs_of(rows: pd.DataFrame, axes: Sequence[Axes]) -> pd.DataFrame:
    """Rows of runs with the name of the study's suite that each belongs to.

    Their records have the name of the suite in whose folder they lie; the rate tells apart what
    several suites of the study have there.
    """
    parts = []
    for suite in axes:
        home = suite.home or suite.suite
        found = rows[rows["suite"] == home]
        if home != suite.suite:
            arms = found["adapter"] + "-" + found["strategy"]
            pairs = zip(found["lr"], arms, strict=True)
            found = found[[paths.number(lr) in suite.grids.get(arm, ()) for lr, arm in pairs]]
        parts.append(found.assign(suite=suite.suite))
    return pd.concat(parts, ignore_index=True)
