"""How the effect of CoTo depends on the learning rate and on the number of steps.

A comparison at one rate and one length says little of a method that needs time to catch up, or
whose rivals do better at another rate. The study trains both arms at every rate and length of a
grid; the table has the effect at each, and the figure a line per length over the rates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure

from coto.config.models import Tables
from coto.findings.studies.quantities import (
    GENERALIZATION,
    HALF,
    PRUNING,
    rate_of,
    runs_of,
    values_of,
)
from coto.report import tables
from coto.report.comparison import compare, overall
from coto.report.drawing import legend_above, look, message, new_figure
from coto.report.panels import at
from coto.report.quantities import BASELINE, STRATEGY, headline, ranked
from coto.report.records import Frames
from coto.report.settings import LEAST_SEEDS, Axes, Settings, describe
from coto.report.tables import cell
from coto.report.writing import Table

# What the effect is shown of, with its heading.
SHOWN = {GENERALIZATION: "single tasks", PRUNING: "adapters removed", HALF: "two seeds averaged"}
READING = (
    "single tasks: runs as they are, on the test part. adapters removed: mean over the structured "
    "prunings, both parities of every other layer as one. two seeds averaged: half-way between "
    "them, factors averaged. Nothing is retrained.",
    "effect: CoTo minus vanilla, paired over tasks and seeds, in points.",
    "Runs of fewer steps are trainings of their own: learning rate and schedule run over the steps "
    "that there are.",
    "best on validation: arms that do best at this rate, of this length, over the tasks' "
    "validation parts.",
)
EDGE = "The best rate is the {end} of the grid, which may go on beyond it: {arms}."


@dataclass(frozen=True)
class Dependence:
    """The numbers of a study of rates and lengths.

    Attributes:
        name: of the study.
        tidy: lines of :func:`compare` by ``adapter, length, lr, quantity, task, strategy``, of
            vanilla and CoTo. ``length`` is the share of the suite's steps; ``best`` says whether
            the arm does best at this rate of those of its length, on the validation part.
    """

    name: str
    tidy: pd.DataFrame

    @property
    def effects(self) -> pd.DataFrame:
        """CoTo's lines over all tasks, with the effect as ``difference``."""
        ours = at(self.over_tasks, strategy=STRATEGY)
        return ours[ours["difference"].notna()]

    @property
    def over_tasks(self) -> pd.DataFrame:
        """Lines over all tasks."""
        by = ["length", "lr", "quantity"]
        parts = [overall(part, by) for _, part in self.tidy.groupby("quantity", sort=False)]
        return pd.concat(parts) if parts else self.tidy


def compare_lengths(
    name: str, axes: Sequence[Axes], frames: Frames, settings: Settings
) -> Dependence:
    """Compare vanilla and CoTo at every rate and length, with the axes of the study's suites."""
    lengths = {suite.suite: suite.share for suite in axes}
    rates = {suite.suite: rate_of(suite) for suite in axes}

    def placed(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows[rows["strategy"].isin([BASELINE, STRATEGY])]
        place = {"length": rows["suite"].map(lengths), "lr": rows["suite"].map(rates)}
        # Arms with chosen rates of their own have none in common; grouping would drop NaN.
        return rows.assign(**place, suite=name).fillna({"lr": -1.0})

    rows = placed(values_of(frames, axes))
    rows = rows[rows["quantity"].isin(SHOWN)].assign(metric="headline score")
    tidy = compare(rows, settings, ["length", "lr", "quantity"])
    validation = headline(runs_of(frames["train"], axes))
    best = _best(placed(validation[validation["split"] == "validation"]))
    tidy = tidy.merge(best, how="left", on=[*_ARM, "lr"])
    rate = tidy["lr"].astype(float).replace(-1.0, np.nan)
    tidy = tidy.assign(best=tidy["best"].eq(True), length=tidy["length"].astype(float), lr=rate)
    return Dependence(name, tidy)


_ARM = ["adapter", "strategy", "length"]


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    """The rate of each arm and length with the best mean over tasks, where there are several."""
    per_task = rows.groupby([*_ARM, "lr", "task"])["value"].mean()
    means = per_task.groupby([*_ARM, "lr"]).mean().reset_index()
    several = means[means.groupby(_ARM)["lr"].transform("size") > 1]
    best = several.loc[several.groupby(_ARM)["value"].idxmax(), [*_ARM, "lr"]]
    return best.assign(best=True)


# --- the table ------------------------------------------------------------------------------------


def dependence_table(study: Dependence, settings: Settings, style: Tables) -> Table:
    """One line per adapter kind, length and rate; the CSV has every task."""
    lines = study.over_tasks
    title = f"Study {study.name}: the effect of CoTo by learning rate and number of steps"
    display = []
    for adapter in ranked("adapter", list(lines["adapter"])):
        arms = at(lines, adapter=adapter)
        places = arms[["length", "lr"]].drop_duplicates().sort_values(["length", "lr"])
        for length, lr in places.to_numpy(float):
            # No rate equals no rate.
            same = arms["lr"].isna() if np.isnan(lr) else arms["lr"] == lr
            part = arms[same & (arms["length"] == length)]
            rate = "each arm's own" if np.isnan(lr) else f"{lr:g}"
            line = {"adapter": adapter, "steps": percent(length), "learning rate": rate}
            for quantity, heading in SHOWN.items():
                line |= _cells(at(part, quantity=quantity), heading, style)
            best = ranked("strategy", list(at(part, best=True)["strategy"]))
            display.append({**line, "best on validation": ", ".join(best)})
    unusual = {
        tables.FEW: (lines["n_values"] < LEAST_SEEDS).any(),
        tables.COLLAPSED: (lines["flagged"] > 0).any(),
    }
    notes = [
        *(tables.PERCENT.format(level=100 * settings.confidence), *READING, *_edges(lines)),
        *(text for text, true in unusual.items() if true),
        describe(study.name, settings, "Study"),
    ]
    frame = pd.DataFrame(display).fillna("")
    return Table(title, study.tidy, frame, tuple(filter(None, notes)))


def percent(length: float) -> str:
    """A share of the steps, for people."""
    return f"{100 * length:g} %"


def _cells(lines: pd.DataFrame, heading: str, style: Tables) -> dict[str, str]:
    """Means of vanilla and CoTo, and the effect with its interval; empty without measurements."""
    texts, effect = [], ""
    for _, line in lines.iterrows():
        mark = tables.FLAG if line["flagged"] else ""
        texts.append(cell(line["mean"], style.decimals) + mark)
        if line["strategy"] == STRATEGY:
            bounds = (line["difference_low"], line["difference_high"])
            effect = cell(line["difference"], style.decimals, bounds, signed=True)
    return {heading: " → ".join(texts), f"{heading}: effect": effect}


def _edges(lines: pd.DataFrame) -> list[str]:
    """One sentence for each end of the grid that an arm does best at."""
    notes = []
    ends = lines.groupby(_ARM)["lr"].agg(["min", "max"])
    best = at(lines, best=True).drop_duplicates([*_ARM, "lr"]).set_index(_ARM)["lr"]
    for end, name in (("min", "lower end"), ("max", "upper end")):
        on = best[best == ends.loc[best.index, end]]
        named = [
            f"{a}-{s} at {percent(length)} of the steps ({on[a, s, length]:g})"
            for a, s, length in on.index
        ]
        if named:
            notes.append(EDGE.format(end=name, arms=", ".join(named)))
    return notes


# --- the figure -----------------------------------------------------------------------------------


def draw_dependence(study: Dependence) -> Figure:
    """The effect over learning rates: a panel per quantity and adapter kind, a line per length.

    Bars are intervals; lines lie side by side so that their bars can be told apart. The effect is
    of all tasks together.
    """
    effects = study.effects
    effects = effects[effects["lr"].notna()]
    if effects.empty:
        return message("Nothing was measured at several learning rates.")
    adapters = ranked("adapter", list(effects["adapter"]))
    lengths = sorted(effects["length"].unique())
    picture = new_figure(9.5, 2.5 * len(adapters) + 0.6)
    grid = picture.subplots(len(adapters), len(SHOWN), sharex=True, squeeze=False)
    for adapter, line in zip(adapters, grid, strict=True):
        for axes, (quantity, heading) in zip(line, SHOWN.items(), strict=True):
            shown = at(effects, adapter=adapter, quantity=quantity)
            _draw_effects(axes, shown, lengths)
            axes.set_title(f"{adapter}: {heading}", loc="left")
        line[0].set_ylabel(f"{STRATEGY} − {BASELINE} (points)")
    for axes in grid[-1]:
        axes.set_xlabel("learning rate")
    legend_above(picture, max(grid.flat, key=lambda axes: len(axes.containers)))
    return picture


def _draw_effects(axes: Panel, lines: pd.DataFrame, lengths: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.axhline(0, color="#444444", linewidth=1.0)
    if lines.empty:  # such as merges of a single seed
        middle = axes.transAxes
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=middle)
        return
    rates = sorted(lines["lr"].unique())
    ratio = min((b / a for a, b in pairwise(rates)), default=1.0)
    names = [percent(length) for length in lengths]
    for i, length in enumerate(lengths):
        path = at(lines, length=length).sort_values("lr")
        colour, marker, _ = look(names, names[i])
        mean, low, high = (
            100 * path[name].to_numpy(float)
            for name in ("difference", "difference_low", "difference_high")
        )
        # One or two seeds know too little of their spread for a bar.
        bare = (path["n_seeds"] < LEAST_SEEDS).to_numpy(bool)
        low, high = np.where(bare, np.nan, low), np.where(bare, np.nan, high)
        axes.errorbar(
            path["lr"].to_numpy(float) * ratio ** (0.12 * (i - (len(lengths) - 1) / 2)),
            mean,
            yerr=[mean - low, high - mean],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.4,
            elinewidth=0.9,
            capsize=2,
            label=f"{names[i]} of the steps",
        )
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
