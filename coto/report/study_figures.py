"""A study's figure, drawn as the authors' rebuttal draws it; the paper's numbers are lighter."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coto.report.comparison import overall
from coto.report.drawing import legend_above, look, message, new_figure, percent_axis
from coto.report.quantities import ranked
from coto.report.study import CURVES, MODES, RATIOS, Study
from coto.report.study_paper import paper_lines

LIGHT = 0.4
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
        _grouped(left, values, RATIOS, arms, light=light)
        _grouped(right, values, MODES, arms, light=light)
        left.set_title(f"{name}: merging ratio", loc="left")
        where = " (CLIP ViT-B/16 on DTD, ± standard deviation)" if light else ""
        right.set_title(f"{name}: adapters kept{where}", loc="left")
        percent_axis(left, "score")
        top = 100 * values["high"].fillna(values["mean"]).max()
        left.set_ylim(0, min(104.0, 1.06 * top))
    legend_above(shown, grid[0][0])
    return shown


def _grouped(
    axes: Axes, values: pd.DataFrame, labels: Mapping[str, str], arms: list[str], *, light: bool
) -> None:
    width = 0.84 / len(arms)
    for i, arm in enumerate(arms):
        bars = (
            values[values["strategy"] == arm].set_index("quantity").reindex(list(labels.values()))
        )
        colour, _, hatch = look(arms, arm)
        mean = 100 * bars["mean"].to_numpy(float)
        low, high = (100 * bars[end].to_numpy(float) for end in ("low", "high"))
        axes.bar(
            np.arange(len(labels)) + (i - (len(arms) - 1) / 2) * width,
            mean,
            width * 0.94,
            yerr=[mean - low, high - mean],
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            alpha=LIGHT if light else 1.0,
            error_kw={"linewidth": 0.9, "capsize": 1.5, "alpha": LIGHT if light else 1.0},
            label=arm,
        )
    axes.set_xticks(np.arange(len(labels)), list(labels))
    axes.grid(visible=False, axis="x")


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
    """Show the means; intervals, which few seeds make wide, may reach beyond the picture."""
    if not means.notna().any():  # such as merges of a single seed
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
        return
    low, high = 100 * means.min(), 100 * means.max()
    margin = 0.1 * max(high - low, 5.0)
    axes.set_ylim(low - margin, high + margin)


def _curves(
    axes: Axes, values: pd.DataFrame, over: str, arms: list[str], *, light: bool = False
) -> None:
    for arm in arms:
        path = values[values["strategy"] == arm].sort_values(over)
        if path.empty:
            continue
        colour, marker, _ = look(arms, arm)
        x = path[over].to_numpy(float) * (100 if over == "share" else 1)
        axes.plot(
            x,
            100 * path["mean"].to_numpy(float),
            color=colour,
            marker=marker,
            linestyle="--" if light else "-",
            linewidth=1.0 if light else 1.6,
            markersize=2.5 if light else 4,
            alpha=LIGHT if light else 1.0,
            label=f"{arm}, {_PAPER}" if light else arm,
        )
        if light:
            continue
        low, high = (100 * path[end].to_numpy(float) for end in ("low", "high"))
        if np.isfinite(low).any():
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
