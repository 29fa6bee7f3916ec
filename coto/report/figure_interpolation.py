"""The figure of the path between two seeds."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coto.report import quantities
from coto.report.comparison import AVERAGE, compare
from coto.report.drawing import (
    LIGHT,
    Frames,
    Strategies,
    figure,
    legend_above,
    look,
    message,
    new_figure,
    percent_axis,
)
from coto.report.panels import at, curve, named, places, show_means
from coto.report.paper import PaperValue, paper_values
from coto.report.quantities import ranked
from coto.report.settings import Settings

# More columns than this would not be legible; the average over tasks stands for them.
MAX_TASKS = 6
_LINES = {"fusion": "-", "ensemble": "--"}
_PAPER = {"vanilla": "LoRA", "coto": "LoRA-CoTo"}


@figure("interpolation")
def interpolation(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score along the path between two seeds: a row per adapter, a column per task."""
    rows = quantities.path_scores(frames["interpolate"])
    points = rows.groupby(["suite", "adapter", "operator"])["weight"].transform("nunique")
    rows = rows[points > 1]
    if rows.empty:
        return message("Interpolation was not measured: it needs two seeds.")
    tidy = compare(rows, settings, ["operator", "weight"], differences=False)
    found = places(tidy)
    columns = {suite: _columns(at(rows, suite=suite)["task"]) for suite, _ in found}
    count = max(map(len, columns.values()))
    shown = new_figure(max(4.5, 1.9 * count + 0.8), 2.1 * len(found) + 1.0)
    grid = shown.subplots(len(found), count, sharex=True, squeeze=False)
    arms = ranked("strategy", list(rows["strategy"]))
    for line, (suite, adapter) in zip(grid, found, strict=True):
        ours = at(tidy, suite=suite)
        heights = ours["mean"]
        for axes, task in zip(line, columns[suite], strict=False):
            _draw_paths(axes, at(ours, adapter=adapter, task=task), arms)
            title = "average" if task == AVERAGE else task
            axes.set_title(f"{named((suite, adapter), found)}\n{title}")
            axes.tick_params(labelleft=axes is line[0], labelbottom=True)
        if settings.kind(suite) == "language" and adapter == "lora":
            heights = pd.concat([heights, _draw_paper(line[0], arms)])
        for axes in line:
            show_means(axes, heights, least=1.0)
        for axes in line[len(columns[suite]) :]:
            axes.set_visible(False)
        percent_axis(line[0], "score")
    for axes in grid[-1]:
        axes.set_xlabel("λ (weight of second seed)", fontsize=8)
    legend_above(shown, *grid.flat)
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
        for operator in ranked("operator", list(tidy["operator"])):
            path = at(tidy, strategy=arm, operator=operator)
            if path.empty:
                continue
            curve(
                axes,
                path,
                "weight",
                color=colour,
                linestyle=_LINES.get(operator, ":"),
                marker=marker,
                markersize=3.5,
                linewidth=1.3,
                markerfacecolor=colour if operator == "fusion" else "white",
                label=f"{arm}, {operator}",
            )
    axes.set_xticks([0, 0.5, 1])


def _draw_paper(axes: Axes, arms: list[str]) -> pd.Series:
    """The paper's scores half-way, of commonsense sets; returns their heights, as fractions."""
    values: dict[str, PaperValue] = {
        method: value for (_, method, _), value in paper_values("lmc_commonsense_lambda0.5").items()
    }
    for arm, method in _PAPER.items():
        if arm not in arms:
            continue
        colour, marker, _ = look(arms, arm)
        value = values[method]
        axes.plot(
            [0.5],
            [value.value],
            color=colour,
            marker=marker,
            markersize=7,
            linestyle="none",
            alpha=LIGHT,
            label=f"{arm}, paper ({value.quality})",
        )
        axes.annotate(
            f"paper: {value.value:g}",
            (0.5, value.value),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="#555555",
        )
    return pd.Series([value.value / 100 for value in values.values()])
