"""Figures of models with some layers' adapters off: dropout stability, Theorem 3.1."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from coto.report.drawing import (
    LOOKS,
    Frames,
    Strategies,
    figure,
    legend_above,
    message,
    new_figure,
)
from coto.report.panels import at, curves, hide_empty, named, places, show_means
from coto.report.quantities import ranked
from coto.report.quantities_analysis import stability_curve
from coto.report.settings import Settings
from coto.report.statistics import mean_interval

_PLACE = ["suite", "adapter"]
_LEVELS = {
    "expected": "expected loss over masks",
    "mean-outputs": "bound: averaged outputs (guaranteed)",
    "mean-weights": "averaged weights (no guarantee)",
}
_BOUNDS = ("mean-outputs", "mean-weights")
_STYLES: dict[str, dict[str, Any]] = {
    name: {"color": colour, "marker": marker, "ls": line, "markersize": 3.5, "linewidth": 1.4}
    for name, line, (colour, marker, _) in zip(_LEVELS, ("-", "--", ":"), LOOKS, strict=False)
}


@figure("dropout_stability")
def dropout_stability(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Expected score and loss against the chance that each layer's adapter is kept."""
    measured = {
        name: _centred(stability_curve(frames["subnetworks"], name)) for name in ("score", "loss")
    }
    if measured["score"].empty:
        return message("Dropout stability was not measured.")
    found = places(measured["score"])
    arms = ranked("strategy", list(measured["score"]["strategy"]))
    shown = new_figure(7.4, 2.3 * len(found) + 0.9)
    grid = shown.subplots(len(found), 2, sharex=True, squeeze=False)
    for line, (suite, adapter) in zip(grid, found, strict=True):
        for axes, (measure, rows) in zip(line, measured.items(), strict=True):
            factor = 100 if measure == "score" else 1
            tidy = _over_tasks(at(rows, suite=suite, adapter=adapter), settings)
            curves(axes, tidy, "x", arms, factor=factor)
            show_means(axes, tidy["mean"], factor=factor, least=5.0 if factor > 1 else 0.05)
            axes.set_title(named((suite, adapter), found), loc="left")
        line[0].set_ylabel("expected score (%)")
        line[1].set_ylabel("expected loss (nats)")
    for axes in grid[-1]:
        axes.set(xlabel="q, chance that a layer's adapter is kept", xticks=(0, 0.25, 0.5, 0.75, 1))
    legend_above(shown, *grid.flat)
    return shown


def _centred(rows: pd.DataFrame) -> pd.DataFrame:
    """Every task moved to the level of all, so that bands do not show how tasks differ."""
    task, level = (
        rows.groupby(by)["value"].transform("mean") for by in ([*_PLACE, "task"], _PLACE)
    )
    return rows.assign(value=rows["value"] - task + level)


def _over_tasks(rows: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Means over tasks and seeds per strategy and ``x``, with Student's t interval."""
    lines = []
    for key, group in rows.groupby(["strategy", "x"]):
        interval = mean_interval(group["value"], settings.confidence)
        lines.append((*key, interval.mean, interval.low, interval.high))
    return pd.DataFrame(lines, columns=["strategy", "x", "mean", "low", "high"])


@figure("theorem")
def theorem(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Expected loss and what Theorem 3.1 bounds it by, over p: a column per strategy."""
    rows = at(frames["subnetworks"], analysis="theorem")
    if rows.empty:
        return message("The bound of Theorem 3.1 was not measured.")
    means = rows.groupby([*_PLACE, "strategy", "measure", "x"])["value"].mean().reset_index()
    found = places(means)
    arms = ranked("strategy", list(means["strategy"]))
    shown = new_figure(2.9 * len(arms) + 0.6, 3.4 * len(found) + 0.9)
    heights = (3, 2) * len(found)
    grid = shown.subplots(
        2 * len(found), len(arms), sharex=True, sharey="row", squeeze=False, height_ratios=heights
    )
    for i, (suite, adapter) in enumerate(found):
        for upper, lower, arm in zip(grid[2 * i], grid[2 * i + 1], arms, strict=True):
            here = at(means, suite=suite, adapter=adapter, strategy=arm)
            if here.empty:
                continue
            losses = here.pivot(index="x", columns="measure", values="value")
            _draw_losses(upper, losses)
            _draw_slack(lower, losses)
            upper.set_title(f"{named((suite, adapter), found)}, {arm}", loc="left")
        grid[2 * i, 0].set_ylabel("loss (nats)")
        grid[2 * i + 1, 0].set_ylabel("loss − bound")
    for axes in grid[-1]:
        axes.set(xlabel="p, chance that a layer is on", xticks=(0, 0.25, 0.5, 0.75, 1))
    hide_empty(grid)
    _legend(shown, set(means["measure"]))
    return shown


def _draw_losses(axes: Axes, losses: pd.DataFrame) -> None:
    """A line for each measure over p, and the slack of the guaranteed bound filled."""
    p = losses.index.to_numpy(float)
    for measure in [name for name in _LEVELS if name in losses]:
        axes.plot(p, losses[measure].to_numpy(float), **_STYLES[measure])
    if "mean-outputs" in losses:
        low, high = (losses[name].to_numpy(float) for name in ("mean-outputs", "expected"))
        colour = _STYLES["mean-outputs"]["color"]
        axes.fill_between(p, low, high, alpha=0.15, linewidth=0, color=colour)


def _draw_slack(axes: Axes, losses: pd.DataFrame) -> None:
    """How far the expected loss is above each bound; hatched where it is below."""
    p = losses.index.to_numpy(float)
    axes.axhline(0, color=_STYLES["expected"]["color"], linewidth=1.4)
    for measure in [name for name in _BOUNDS if name in losses]:
        slack = (losses["expected"] - losses[measure]).to_numpy(float)
        colour = _STYLES[measure]["color"]
        axes.plot(p, slack, **_STYLES[measure])
        axes.fill_between(p, slack.clip(min=0), color=colour, alpha=0.15, linewidth=0)
        below = axes.fill_between(p, slack.clip(max=0), facecolor="none", edgecolor=colour)
        below.set(hatch="////", linewidth=0)


def _legend(shown: Figure, measures: set[str]) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], label=label, **_STYLES[name])
        for name, label in _LEVELS.items()
        if name in measures
    ]
    handles.append(
        Patch(facecolor="none", edgecolor="#555555", hatch="////", label="bound violated")
    )
    shown.legend(handles=handles, loc="outside upper center", ncols=2)
