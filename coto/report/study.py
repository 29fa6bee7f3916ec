"""Studies: one suite varied by strategy, by learning rate or over its training.

A study's quantities are those of the authors' rebuttal (Table r3, Figures r1 to r3 and r6): the
score of single runs, of two seeds merged 1:2 and 1:1, of three seeds merged 1:1:1, and after
structured pruning. Merging averages the factors A and B.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from coto.report import quantities
from coto.report.comparison import compare, effect, overall, paired
from coto.report.quantities import ARM
from coto.report.settings import Settings
from coto.report.statistics import judge

Form = Literal["strategies", "rates", "schedules"]
Frames = Mapping[str, pd.DataFrame]

GENERALIZATION, HALF, EVERY_OTHER = "generalization", "merging 1:1", "pruning everyother"
# The quantities that the table shows, in order; figures need those of `MODES` as well.
SHOWN = (GENERALIZATION, "merging 1:2", HALF, "merging 1:1:1", "pruning", EVERY_OTHER)
# Labels of the two panels of bars, each with its quantity.
RATIOS = {"0:1": GENERALIZATION, **{r: f"merging {r}" for r in ("1:2", "1:1", "1:1:1")}}
MODES = {
    keep: f"pruning {keep}"
    for keep in ("all", "everyother", "low", "middle", "high", "query", "key", "value")
}
# What the figures over the training and over learning rates show.
CURVES = (GENERALIZATION, HALF, EVERY_OTHER)
_SNAPSHOTS = {
    "single": GENERALIZATION,
    "merge 1:1": HALF,
    "prune odd": EVERY_OTHER,
    "prune even": EVERY_OTHER,
}
_COLUMNS = [*ARM, "lr", "share", "quantity", "seed", "value", "flag"]


@dataclass(frozen=True)
class Study:
    """A study's name, form and numbers.

    Attributes:
        name: of the study, which its files have, too.
        form: what varies; ``schedules`` has numbers over the training, too.
        adapters: kinds in it.
        tidy: lines of :func:`compare` by ``adapter, lr, share, quantity, task, strategy``. ``lr``
            is NaN where the arms of one line have chosen rates of their own; ``share`` is the part
            of the training done, NaN at its end.
        rates: sentence on the learning rates of the arms, where they are not what varies.
        verdicts: sentences on CoTo against its strongest rival.
    """

    name: str
    form: Form
    adapters: tuple[str, ...]
    tidy: pd.DataFrame
    rates: str
    verdicts: tuple[str, ...]

    @property
    def final(self) -> pd.DataFrame:
        """Lines over all tasks at the end of training."""
        shown = self.tidy[self.tidy["share"].isna()]
        return pd.concat([overall(part) for _, part in shown.groupby("quantity", sort=False)])


def form_of(axes: Sequence[Mapping[str, Any]]) -> Form:
    """What varies in a study, from the axes of its suites."""
    if any("trajectory" in suite["stages"] for suite in axes):
        return "schedules"
    return "rates" if len(axes) > 1 else "strategies"


def make_study(
    name: str, axes: Sequence[Mapping[str, Any]], frames: Frames, settings: Settings
) -> Study:
    """Compare the variants of a study.

    Args:
        name: of the study.
        axes: of the suites that it is made of.
        frames: rows by stage.
        settings: interval level and resampling.
    """
    form = form_of(axes)
    rates = {suite["suite"]: rate_of(suite) if len(axes) > 1 else np.nan for suite in axes}
    rows = _values(frames)
    rows = rows.assign(lr=rows["suite"].map(rates), suite=name)
    tidy = _compared(rows, settings)
    verdicts = _verdicts(rows, settings) if form == "strategies" else ()
    told = "" if form == "rates" else _rates(axes)
    return Study(name, form, tuple(dict.fromkeys(tidy["adapter"])), tidy, told, verdicts)


def _rates(axes: Sequence[Mapping[str, Any]]) -> str:
    """The learning rate of each arm, or those that it was chosen from."""
    grids = {arm: grid for suite in axes for arm, grid in suite["grids"].items()}
    told = (
        f"{arm} {' or '.join(grid)}{' (chosen on validation)' if len(grid) > 1 else ''}"
        for arm, grid in grids.items()
    )
    return f"Learning rates: {'; '.join(told)}."


def rate_of(suite: Mapping[str, Any]) -> float:
    """The learning rate that all arms of a suite have in common; NaN where they have several."""
    found = {float(rate) for grid in suite["grids"].values() for rate in grid}
    return found.pop() if len(found) == 1 else float("nan")


def _values(frames: Frames) -> pd.DataFrame:
    """One value per (suite, task, adapter, strategy, share, quantity, seed)."""
    path, prune = frames["interpolate"], frames["prune"]
    merged = {
        "merging 1:2": quantities.thirds(path),
        HALF: quantities.midpoints(path),
        "merging 1:1:1": quantities.three_way(path),
    }
    single = quantities.test_scores(frames["train"], frames["select"])
    found = {
        GENERALIZATION: quantities.headline(single),
        **{name: rows[rows["operator"] == "fusion"] for name, rows in merged.items()},
        "pruning": quantities.pruned_mean(prune),
    }
    # Both parities of every other layer count as one, as elsewhere.
    modes = quantities.structured(prune)
    kinds = modes["keep"].replace({"odd": "everyother", "even": "everyother"})
    for kind, rows in modes.assign(keep=kinds).groupby("keep"):
        mean = rows.groupby([*ARM, "seed"])["value"].mean()
        found[f"pruning {kind}"] = mean.reset_index()
    parts = [rows.assign(quantity=name, share=np.nan) for name, rows in found.items() if len(rows)]
    if len(frames["trajectory"]):
        parts.append(_over_training(frames["trajectory"]))
    every = pd.concat(parts).reindex(columns=_COLUMNS)
    return every.assign(flag=every["flag"].fillna("")).reset_index(drop=True)


def _over_training(trajectory: pd.DataFrame) -> pd.DataFrame:
    rows = quantities.labelled(quantities.headline(trajectory))
    rows = rows.assign(quantity=rows["quantity"].map(_SNAPSHOTS))
    return rows.groupby([*ARM, "share", "quantity", "seed"])["value"].mean().reset_index()


def _compared(rows: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    # A missing rate or share is a place as good as another; grouping would drop NaN.
    filled = rows.fillna({"lr": -1.0, "share": -1.0}).assign(metric="headline score")
    tidy = compare(filled, settings, ["lr", "share", "quantity"])
    return tidy.replace({"lr": {-1.0: np.nan}, "share": {-1.0: np.nan}})


def _verdicts(rows: pd.DataFrame, settings: Settings) -> tuple[str, ...]:
    """CoTo against the strongest other strategy, judged as the claims are."""
    found = []
    for adapter in quantities.ranked("adapter", list(rows["adapter"])):
        for name in (GENERALIZATION, HALF, EVERY_OTHER):
            here = rows[(rows["quantity"] == name) & (rows["adapter"] == adapter)]
            both = quantities.against_strongest(here)
            if both.empty:
                continue
            (rival,) = both["rival"].dropna().unique()
            gap = effect(paired(both), "coto", settings)
            if gap is None:
                continue
            share = 0.5 if name == GENERALIZATION else 1.0
            verdict = judge(gap, margin=share * settings.margin / 100)
            found.append(
                f"{adapter}, {name}: CoTo minus {rival}, its strongest rival: "
                f"{100 * gap.mean:+z.1f} [{100 * gap.low:+z.1f}, {100 * gap.high:+z.1f}] points, "
                f"p = {gap.p:.4f}, {gap.n_pairs} pairs. CoTo is better: {verdict.label} "
                f"({verdict.reason})."
            )
    return tuple(found)
