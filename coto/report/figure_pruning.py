"""Figures of pruned adapters: whole adapters removed, single entries set to zero."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coto.report import quantities
from coto.report.drawing import (
    LIGHT,
    Frames,
    Strategies,
    figure,
    legend_above,
    message,
    new_figure,
    percent_axis,
)
from coto.report.panels import (
    at,
    averages,
    curves,
    grouped_bars,
    hide_empty,
    named,
    paper_lines,
    places,
    show_means,
)
from coto.report.paper import paper_value, paper_values
from coto.report.quantities import BASELINE, ranked
from coto.report.quantities_analysis import unstructured
from coto.report.settings import Settings

_KEPT = {"all": "all\n(no pruning)"} | {
    keep: f"{keep}\nlayers" for keep in ("odd", "even", "low", "middle", "high")
}
_PAPER = {"LoRA": "vanilla", "LoRA-CoTo": "coto"}
# Its everyother stands for both parities, as which one it keeps is not known.
_BARS = {"everyother": ("odd", "even")}
# The methods in the order of their columns; the paper does not say which one is its own.
_METHODS = {
    "magnitude-factors-global": "smallest entries of A and B,\nover all layers",
    "magnitude-factors-layer": "smallest entries of A and B,\nper layer",
    "magnitude-delta-global": "smallest entries of ΔW,\nover all layers",
    "magnitude-delta-layer": "smallest entries of ΔW,\nper layer",
    "random-factors-global": "random entries of A and B,\nover all layers",
    "random-delta-global": "random entries of ΔW,\nover all layers",
}


@figure("pruning")
def pruning(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score by what is kept, average over tasks, with the intervals of the tables."""
    rows = quantities.structured(frames["prune"])
    if rows.empty:
        return message("Pruning was not measured.")
    tidy = averages(rows, settings, ["keep"])
    found = places(tidy)
    arms = ranked("strategy", list(tidy["strategy"]))
    keeps = ranked("keep", list(tidy["keep"]))
    paper, quality = _paper_averages()
    shown = new_figure(7.5, 2.0 * (len(found) + 1) + 0.9)
    grid = shown.subplots(len(found) + 1, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (suite, adapter) in zip(grid, found, strict=False):
        here = at(tidy, suite=suite, adapter=adapter)
        grouped_bars(axes, here, "keep", keeps, arms)
        several = at(rows, suite=suite)["task"].nunique() > 1
        average = ", average over tasks" if several else ""
        axes.set_title(f"{named((suite, adapter), found)}{average}", loc="left")
    grouped_bars(grid[-1], paper, "keep", keeps, arms, light=True)
    grid[-1].set_title(
        f"paper: LoRA on CLIP ViT-B/16, average over 11 image sets ({quality}, ± standard "
        "deviation)",
        loc="left",
    )
    for axes in grid:
        axes.set_ylim(0, 100)
        percent_axis(axes, "score")
    labels = [_KEPT.get(keep, f"{keep}\nonly") for keep in keeps]
    grid[-1].set_xticks(np.arange(len(keeps)), labels)
    legend_above(shown, *grid)
    return shown


def _paper_averages() -> tuple[pd.DataFrame, str]:
    """The paper's averages, everyother for both parities, and how they were obtained."""
    return paper_lines(
        (
            ({"strategy": _PAPER[method], "keep": keep}, value)
            for (place, method, _), value in paper_values("clip11_pruning").items()
            for kept in place.split("Average:")[1:]
            for keep in _BARS.get(kept, (kept,))
        ),
        unit=100,
    )


@figure("unstructured_pruning")
def unstructured_pruning(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score against the share of entries that are zero: a row per adapter, a column per method."""
    rows = unstructured(frames["prune"])
    if rows.empty:
        return message("Unstructured pruning was not measured.")
    tidy = averages(rows.assign(sparsity=100 * rows["sparsity"]), settings, ["method", "sparsity"])
    found = places(tidy)
    arms = ranked("strategy", list(tidy["strategy"]))
    order = list(_METHODS)
    methods = sorted(set(tidy["method"]), key=order.index)
    shown = new_figure(max(6.6, 2.3 * len(methods) + 0.6), 2.2 * len(found) + 0.9)
    grid = shown.subplots(len(found), len(methods), sharex=True, sharey="row", squeeze=False)
    for line, (suite, adapter) in zip(grid, found, strict=True):
        here = at(tidy, suite=suite, adapter=adapter)
        for axes, method in zip(line, methods, strict=True):
            curves(axes, at(here, method=method), "sparsity", arms)
        heights = here["mean"]
        if adapter == "lora" and methods[0] == order[0]:
            heights = pd.concat([heights, _draw_gap(line[0], at(here, method=methods[0]))])
        show_means(line[0], heights)
        percent_axis(line[0], f"{named((suite, adapter), found)}\nscore")
    for axes, method in zip(grid[0], methods, strict=True):
        axes.set_title(_METHODS[method])
    for axes in grid[-1]:
        axes.set(xlabel="entries set to zero (%)", xlim=(-3, 103), xticks=(0, 25, 50, 75, 100))
    hide_empty(grid)
    legend_above(shown, *grid[:, 0])
    return shown


def _draw_gap(axes: Axes, lines: pd.DataFrame) -> pd.Series:
    """The paper's gap between the arms at 50 %, on top of our baseline; returns its upper end."""
    gap = paper_value(
        "pruning_unstructured_50pct", "gap", "LoRA-CoTo minus LoRA", "percentage points"
    )
    below = at(lines, strategy=BASELINE, sparsity=50.0)["mean"]
    for low in 100 * below:
        axes.plot(
            [50, 50],
            [low, low + gap.value],
            color="#555555",
            linewidth=5,
            alpha=LIGHT,
            solid_capstyle="butt",
            label=f"paper: CoTo +{gap.value:g} points at 50 % ({gap.quality})",
        )
    return below + gap.value / 100
