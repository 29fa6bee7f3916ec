"""Models with some layers' adapters off: dropout stability, Theorem 3.1."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from coto.config.models import Tables
from coto.findings.layers import quantities
from coto.report.comparison import points
from coto.report.drawing import LOOKS, Strategies, figure, legend_above, message, new_figure
from coto.report.panels import at, curves, hide_empty, show_means
from coto.report.quantities import RUN, ranked
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.statistics import estimate
from coto.report.tables import RUNS, Quantity, compared, empty, laid_out, table
from coto.report.writing import Table

_BOUNDS = {"mean-outputs": "averaged outputs", "mean-weights": "averaged weights"}
# Chances at which the expected score is shown, where they were measured.
_SHOWN_CHANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
_PLACE = ["suite", "adapter"]
_LEVELS = {
    "expected": "expected loss over masks",
    "mean-outputs": "bound: averaged outputs (guaranteed)",
    "mean-weights": "averaged weights (no guarantee)",
}
_STYLES: dict[str, dict[str, Any]] = {
    name: {"color": colour, "marker": marker, "ls": line, "markersize": 3.5, "linewidth": 1.4}
    for name, line, (colour, marker, _) in zip(_LEVELS, ("-", "--", ":"), LOOKS, strict=False)
}


@table("dropout_stability", needs=("subnetworks",))
def dropout_stability(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Expected score when each layer's adapter is kept with chance q, on its own.

    At some q, on average over q, and what dropping layers costs. Averages over tasks in percent,
    with intervals in brackets; every q, single tasks and the loss are in the CSV.
    """
    title = "Layer-wise dropout stability: expected score with each layer kept by chance q"
    rows = frames["subnetworks"]
    scores = quantities.stability_curve(rows, "score")
    if scores.empty:
        return empty(title, "Dropout stability was not measured.")
    grid = np.unique(scores["x"].to_numpy(float))
    nearest = {float(grid[np.abs(grid - q).argmin()]) for q in _SHOWN_CHANCES}
    parts = [Quantity(f"score at q = {q:g}", scores[scores["x"] == q]) for q in sorted(nearest)]
    parts.append(Quantity("mean over q", quantities.stability_area(rows)))
    cost = quantities.stability_loss(rows)
    parts.append(Quantity("cost: score of all layers − mean over q", cost))
    levels = []
    for measure, unit in quantities.UNITS.items():
        level = points(quantities.stability_curve(rows, measure), settings, ["x"])
        levels.append(level.assign(quantity=f"expected {measure}", unit=unit))
    lines, curve_lines = compared(parts, settings), pd.concat(levels)
    remarks = (
        "Every layer's adapter is kept with chance q, on its own; the expectation is over the "
        "subsets that stay. The mean over q is the area under the curve. The CSV has every q (x) "
        "and the expected loss in nats.",
        quantities.EARLY,
    )
    return laid_out(title, lines, curve_lines, {}, settings, style, *remarks)


@figure("dropout_stability", needs=("subnetworks",))
def draw_dropout_stability(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Expected score and loss when each layer's adapter is kept with chance q, without retraining.

    Means over tasks; bands are Student's t intervals over seeds and may reach beyond the picture.
    *coto-early* is CoTo stopped early.
    """
    rows = frames["subnetworks"]
    measured = [quantities.stability_curve(rows, name) for name in ("score", "loss")]
    if measured[0].empty:
        return message("Dropout stability was not measured.")
    places = quantities.by_place(*measured)
    arms = ranked("strategy", list(measured[0]["strategy"]))
    shown = new_figure(7.4, 2.3 * len(places) + 0.9)
    grid = shown.subplots(len(places), 2, sharex=True, squeeze=False)
    for line, (title, parts) in zip(grid, places, strict=True):
        for axes, part, factor, least in zip(line, parts, (100, 1), (5.0, 0.05), strict=True):
            tidy = _over_tasks(part, settings)
            curves(axes, tidy, "x", arms, factor=factor)
            show_means(axes, tidy["mean"], factor=factor, least=least)
            axes.set_title(title, loc="left")
        line[0].set_ylabel("expected score (%)")
        line[1].set_ylabel("expected loss (nats)")
    for axes in grid[-1]:
        axes.set(xlabel="q, chance that a layer's adapter is kept", xticks=_SHOWN_CHANCES)
    legend_above(shown, *grid.flat)
    return shown


def _over_tasks(rows: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Means over tasks per strategy and ``x``, with Student's t interval over seeds."""
    lines = []
    for key, part in rows.groupby(["strategy", "x"]):
        found = estimate(part, "value")
        lines.append((*key, found.mean, *found.interval(settings.confidence)))
    return pd.DataFrame(lines, columns=["strategy", "x", "mean", "low", "high"])


@table("theorem", needs=("subnetworks",))
def theorem(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Expected loss over masks minus its lower bound by Theorem 3.1, in nats.

    For the average of the sub-networks' outputs, where convexity guarantees the bound, and of their
    weights, where it does not: mean and smallest slack over the chances of keeping a layer, and in
    how many runs the bound holds.
    """
    title = "Theorem 3.1: expected loss over masks minus its lower bound"
    rows = pd.concat(
        quantities.bound_slack(frames["subnetworks"], bound).assign(bound=name)
        for bound, name in _BOUNDS.items()
    ).reset_index(drop=True)
    inner = rows[(rows["x"] > 0) & (rows["x"] < 1)]
    if inner.empty:
        return empty(title, "The bound was not measured at any chance between 0 and 1.")
    mean = inner.groupby([*RUN, "bound"])["value"].mean().reset_index()
    slack = Quantity("mean slack over p (nats)", mean, "nats", differences=False)
    lines = pd.concat([compared([slack], settings, ["bound"]), _extremes(inner)], ignore_index=True)
    slacks = points(rows, settings, ["bound", "x"]).assign(quantity="slack", unit="nats")
    remarks = (
        "Slack: expected loss minus bound, in nats; negative where the bound is broken. p = 0 and "
        "p = 1, where both are the same model, are left out here; the CSV has every p (x).",
        "The theorem is Jensen's inequality: it needs a loss that is convex in what is averaged. "
        "Cross-entropy is convex in the averaged outputs, so that bound is guaranteed. The "
        "averaged weights, W₀ + (j/n)ΔW, are our reading of the paper's theorem; a transformer's "
        "loss is not convex in its weights, so that bound may be broken.",
        quantities.EARLY,
    )
    headings = {"bound": "bound by"}
    return laid_out(title, lines, slacks, headings, settings, style, *remarks)


def _extremes(rows: pd.DataFrame) -> pd.DataFrame:
    """The smallest slack over tasks, seeds and p, at which p, and in how many runs none is < 0."""
    lines = []
    by = [*_PLACE, "bound", "strategy"]
    about = {"task": "all", "metric": "", "kind": "measured", "source": "this run", "flagged": 0}
    for key, arm in rows.groupby(by):
        worst = arm.groupby(RUN)["value"].min()
        line = {**dict(zip(by, key, strict=True)), **about}
        line |= {"n_values": len(worst), "n_seeds": arm["seed"].nunique()}
        smallest = arm.sort_values("value", kind="stable").iloc[0]
        for quantity, mean, unit in (
            ("smallest slack (nats)", smallest["value"], "nats"),
            ("p of the smallest slack", smallest["x"], "probability"),
            ("runs in which it holds for every p", (worst >= -1e-6).mean(), RUNS),  # or rounded
        ):
            lines.append(line | {"quantity": quantity, "mean": float(mean), "unit": unit})
    return pd.DataFrame(lines)


@figure("theorem", needs=("subnetworks",))
def draw_theorem(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Theorem 3.1 in numbers: expected loss when each layer is on with chance p, and its bounds.

    The loss of the averaged outputs, which Jensen's inequality guarantees not to be larger, and the
    loss at the averaged weights, for which a transformer gives no guarantee. Below, how far the
    expected loss is above each; hatched where it is not. Means over tasks and seeds.
    """
    rows = at(frames["subnetworks"], analysis="theorem")
    if rows.empty:
        return message("The bound of Theorem 3.1 was not measured.")
    means = rows.groupby([*_PLACE, "strategy", "measure", "x"])["value"].mean().reset_index()
    places = quantities.by_place(means)
    arms = ranked("strategy", list(means["strategy"]))
    shown = new_figure(2.9 * len(arms) + 0.6, 3.4 * len(places) + 0.9)
    ratios = (3, 2) * len(places)
    shared: dict[str, Any] = {"sharex": True, "sharey": "row", "height_ratios": ratios}
    grid = shown.subplots(len(ratios), len(arms), squeeze=False, **shared)
    for uppers, lowers, (title, (rows,)) in zip(grid[::2], grid[1::2], places, strict=True):
        for upper, lower, arm in zip(uppers, lowers, arms, strict=True):
            losses = at(rows, strategy=arm).pivot(index="x", columns="measure", values="value")
            if losses.empty:
                continue
            _draw_bounds(upper, lower, losses)
            upper.set_title(f"{title}, {arm}", loc="left")
        uppers[0].set_ylabel("loss (nats)")
        lowers[0].set_ylabel("loss − bound")
    for axes in grid[-1]:
        axes.set(xlabel="p, chance that a layer is on", xticks=_SHOWN_CHANCES)
    hide_empty(grid)
    known = [name for name in _LEVELS if name in set(means["measure"])]
    handles = [Line2D([], [], label=_LEVELS[name], **_STYLES[name]) for name in known]
    broken = Patch(facecolor="none", edgecolor="#555555", hatch="////", label="bound violated")
    shown.legend(handles=[*handles, broken], loc="outside upper center", ncols=2)
    return shown


def _draw_bounds(upper: Axes, lower: Axes, losses: pd.DataFrame) -> None:
    """The losses over p; below, how far the expected one is above each bound, hatched where not."""
    p = losses.index.to_numpy(float)
    lower.axhline(0, color=_STYLES["expected"]["color"], linewidth=1.4)
    for measure in [name for name in _LEVELS if name in losses]:
        upper.plot(p, losses[measure].to_numpy(float), **_STYLES[measure])
        if measure == "expected":
            continue
        slack = (losses["expected"] - losses[measure]).to_numpy(float)
        colour = _STYLES[measure]["color"]
        faint: dict[str, Any] = {"color": colour, "alpha": 0.15, "linewidth": 0}
        if measure == "mean-outputs":
            upper.fill_between(p, losses[measure], losses["expected"], **faint)
        lower.plot(p, slack, **_STYLES[measure])
        lower.fill_between(p, slack.clip(min=0), **faint)
        below = lower.fill_between(p, slack.clip(max=0), facecolor="none", edgecolor=colour)
        below.set(hatch="////", linewidth=0)
