"""Figures of adapters changed after training: interpolated, pruned."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coto.report import quantities
from coto.report.comparison import AVERAGE, compare, overall
from coto.report.drawing import (
    Frames,
    Strategies,
    figure,
    legend_above,
    look,
    message,
    new_figure,
    percent_axis,
)
from coto.report.quantities import ranked
from coto.report.settings import Settings

# More columns than this would not be legible; the average over tasks stands for them.
MAX_TASKS = 6
_LINES = {"fusion": "-", "ensemble": "--"}


@figure("interpolation")
def interpolation(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score along the path between two seeds: a row per adapter, a column per task."""
    if frames["interpolate"].empty:
        return message("Interpolation was not measured: it needs two seeds.")
    rows = quantities.path_scores(frames["interpolate"])
    tidy = compare(rows, settings, ["space", "weight"])
    places = tidy[["suite", "adapter"]].drop_duplicates().to_numpy().tolist()
    suites = list(dict.fromkeys(suite for suite, _ in places))
    columns = {suite: _columns(rows.loc[rows["suite"] == suite, "task"]) for suite in suites}
    count = max(map(len, columns.values()))
    shown = new_figure(max(4.5, 1.9 * count + 0.8), 2.1 * len(places) + 1.0)
    grid = shown.subplots(len(places), count, sharex=True, squeeze=False)
    arms = ranked("strategy", list(tidy["strategy"]))
    for line, (suite, adapter) in zip(grid, places, strict=True):
        ours = tidy[tidy["suite"] == suite]
        here = ours[ours["adapter"] == adapter]
        low, high = 100 * ours["mean"].min(), 100 * ours["mean"].max()
        margin = 0.08 * max(high - low, 1.0)
        for axes, task in zip(line, columns[suite], strict=False):
            _draw_paths(axes, here[here["task"] == task], arms)
            where = f"{suite}, {adapter}" if len(suites) > 1 else adapter
            axes.set_title(f"{where}\n{'average' if task == AVERAGE else task}")
            axes.set_ylim(low - margin, high + margin)
            axes.tick_params(labelleft=axes is line[0], labelbottom=True)
        for axes in line[len(columns[suite]) :]:
            axes.set_visible(False)
        percent_axis(line[0], "score")
    for axes in grid[-1]:
        axes.set_xlabel("λ (weight of second seed)", fontsize=8)
    legend_above(shown, grid[0][0])
    return shown


def _columns(tasks: pd.Series) -> list[str]:
    """The average first, then the tasks unless they are too many; of one task, that one."""
    names = sorted(set(tasks))
    if len(names) == 1:
        return names
    return [AVERAGE, *(names if len(names) <= MAX_TASKS else [])]


def _draw_paths(axes: Axes, tidy: pd.DataFrame, arms: list[str]) -> None:
    for arm in arms:
        colour, marker, _ = look(arms, arm)
        for space in ranked("space", list(tidy["space"])):
            path = tidy[(tidy["strategy"] == arm) & (tidy["space"] == space)].sort_values("weight")
            x, y = path["weight"].to_numpy(float), 100 * path["mean"].to_numpy(float)
            axes.plot(
                x,
                y,
                color=colour,
                linestyle=_LINES.get(space, ":"),
                marker=marker,
                markersize=3.5,
                linewidth=1.3,
                markerfacecolor=colour if space == "fusion" else "white",
                label=f"{arm}, {space}",
            )
            low, high = (100 * path[end].to_numpy(float) for end in ("low", "high"))
            if np.isfinite(low).any():
                axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xticks([0, 0.5, 1])


@figure("pruning")
def pruning(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score by what is kept, average over tasks, with the intervals of the tables."""
    if frames["prune"].empty:
        return message("Pruning was not measured.")
    tidy = compare(quantities.headline(frames["prune"]), settings, ["keep"])
    tidy = overall(tidy)
    places = tidy[["suite", "adapter"]].drop_duplicates().to_numpy().tolist()
    several = tidy["suite"].nunique() > 1
    arms = ranked("strategy", list(tidy["strategy"]))
    keeps = ranked("keep", list(tidy["keep"]))
    shown = new_figure(7.5, 2.0 * len(places) + 0.9)
    grid = shown.subplots(len(places), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    width = 0.8 / len(arms)
    for axes, (suite, adapter) in zip(grid, places, strict=True):
        here = tidy[(tidy["suite"] == suite) & (tidy["adapter"] == adapter)]
        for i, arm in enumerate(arms):
            bars = here[here["strategy"] == arm].set_index("keep").reindex(keeps)
            colour, _, hatch = look(arms, arm)
            mean = 100 * bars["mean"]
            error = [mean - 100 * bars["low"], 100 * bars["high"] - mean]
            axes.bar(
                np.arange(len(keeps)) + (i - (len(arms) - 1) / 2) * width,
                mean,
                width * 0.94,
                yerr=error,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                error_kw={"linewidth": 1.0, "capsize": 2},
                label=arm,
            )
        average = ", average over tasks" if here["task"].eq(AVERAGE).any() else ""
        axes.set_title(f"{suite + ', ' if several else ''}{adapter}{average}", loc="left")
        axes.set_ylim(0, 100)
        axes.grid(visible=False, axis="x")
        percent_axis(axes, "score")
    grid[-1].set_xticks(np.arange(len(keeps)), [_keep_label(keep) for keep in keeps])
    legend_above(shown, grid[0])
    return shown


def _keep_label(keep: str) -> str:
    return {"all": "all\n(no pruning)", "odd": "odd\nlayers", "even": "even\nlayers"}.get(
        keep, f"{keep}\n{'layers' if keep in ('low', 'middle', 'high') else 'only'}"
    )
