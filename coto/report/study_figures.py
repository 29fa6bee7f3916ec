"""A study's figure, drawn as the authors' rebuttal draws it; the paper's numbers are lighter."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coto.report.comparison import overall
from coto.report.drawing import LIGHT, legend_above, look, message, new_figure, percent_axis
from coto.report.panels import at, curve, grouped_bars, show_means
from coto.report.quantities import ranked
from coto.report.study import CURVES, MODES, RATIOS, Study
from coto.report.study_paper import paper_lines

_PAPER = "paper: CLIP ViT-B/16, DTD"


def draw_study(study: Study) -> Figure:
    """Bars by strategy, or lines over learning rates or the training, whichever varies."""
    if study.tidy.empty:
        return message("Nothing was measured.")
    return _bars(study) if study.form == "strategies" else _lines(study)


def _bars(study: Study) -> Figure:
    """Left: merging ratios (Figure r2); right: what pruning keeps (Figure r3)."""
    final = study.final
    arms = ranked("strategy", list(final["strategy"]))
    rows = [(adapter, final[final["adapter"] == adapter]) for adapter in study.adapters]
    if "lora" in study.adapters:
        paper = paper_lines("strategies")
        paper = paper[(paper["task"] == "DTD") & paper["strategy"].isin(arms)]
        spread = {"low": paper["mean"] - paper["std"], "high": paper["mean"] + paper["std"]}
        rows.append(("paper", paper.assign(**spread)))
    shown = new_figure(9.0, 2.1 * len(rows) + 0.7)
    grid = shown.subplots(len(rows), 2, width_ratios=(4, 8), sharey="row", squeeze=False)
    for (name, values), (left, right) in zip(rows, grid, strict=True):
        light = name == "paper"
        for axes, labels in ((left, RATIOS), (right, MODES)):
            grouped_bars(axes, values, "quantity", list(labels.values()), arms, light=light)
            axes.set_xticks(np.arange(len(labels)), list(labels))
        left.set_title(f"{name}: merging ratio", loc="left")
        where = " (CLIP ViT-B/16 on DTD, ± standard deviation)" if light else ""
        right.set_title(f"{name}: adapters kept{where}", loc="left")
        percent_axis(left, "score")
        top = 100 * values["high"].fillna(values["mean"]).max()
        left.set_ylim(0, min(104.0, 1.06 * top))
    legend_above(shown, grid[0][0])
    return shown


def _lines(study: Study) -> Figure:
    """Three panels over learning rates (Figure r6) or over the training (Figure r1)."""
    over = "lr" if study.form == "rates" else "share"
    tidy = study.tidy[study.tidy[over].notna()]
    if tidy.empty:
        return message("Nothing was measured.")
    tidy = pd.concat([overall(part) for _, part in tidy.groupby("quantity", sort=False)])
    arms = ranked("strategy", list(tidy["strategy"]))
    paper = paper_lines(study.form)
    paper = paper[paper["strategy"].isin(arms)]
    shown = new_figure(9.5, 2.4 * len(study.adapters) + 0.9)
    grid = shown.subplots(len(study.adapters), len(CURVES), sharex=True, squeeze=False)
    for adapter, line in zip(study.adapters, grid, strict=True):
        here = tidy[tidy["adapter"] == adapter]
        for axes, quantity in zip(line, CURVES, strict=True):
            ours = here[here["quantity"] == quantity]
            theirs = paper[(paper["quantity"] == quantity) & (adapter == "lora")]
            _curves(axes, ours, over, arms)
            _curves(axes, theirs, over, arms, light=True)
            _limits(axes, pd.concat([ours["mean"], theirs["mean"]]))
            axes.set_title(f"{adapter}: {quantity}")
            if over == "lr":
                axes.set_xscale("log")
        percent_axis(line[0], "score")
    label = "learning rate" if over == "lr" else "training done (%)"
    for axes in grid[-1]:
        axes.set_xlabel(label)
    # The panel with the most lines, so that the legend names the paper's, too.
    legend_above(shown, max(grid.flat, key=lambda axes: len(axes.lines)))
    return shown


def _limits(axes: Axes, means: pd.Series) -> None:
    if means.notna().any():
        show_means(axes, means)
    else:  # such as merges of a single seed
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")


def _curves(
    axes: Axes, values: pd.DataFrame, over: str, arms: list[str], *, light: bool = False
) -> None:
    if over == "share":
        values = values.assign(share=100 * values["share"])
    for arm in arms:
        path = at(values, strategy=arm)
        if path.empty:
            continue
        colour, marker, _ = look(arms, arm)
        curve(
            axes,
            path[[over, "mean"]] if light else path,
            over,
            color=colour,
            marker=marker,
            linestyle="--" if light else "-",
            linewidth=1.0 if light else 1.6,
            markersize=2.5 if light else 4,
            alpha=LIGHT if light else 1.0,
            label=f"{arm}, {_PAPER}" if light else arm,
        )
