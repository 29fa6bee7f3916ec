"""Figures of merges, from vanilla to CoTo: paths between two seeds, and every operator."""

from itertools import product
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coto.findings.merging import quantities
from coto.findings.merging.quantities import PAPER, midpoints
from coto.findings.merging.scores import label_of, measured_paths
from coto.report import panels
from coto.report.comparison import AVERAGE, compare, overall
from coto.report.drawing import LIGHT, Strategies, figure, legend_above, look, message, new_figure
from coto.report.panels import at, named
from coto.report.paper import paper_value
from coto.report.quantities import BASELINE, STRATEGY, ranked
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.tables import PAPER_ARMS

# More columns than this would not be legible; the average over tasks stands for them.
_MAX_TASKS = 6
_GREY: dict[str, Any] = {"fontsize": 8, "color": "#555555"}


@figure("interpolation", needs=("interpolate", "train", "select", "none", "baseline"))
def draw_interpolation(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score half-way between two seeds of the same arm by task, and the path of the average.

    A row per suite and adapter. Left, from vanilla to CoTo: filled marks average the factors A and
    B (*fusion*), open ones ΔW (*ensemble*); the lines of a task are the scores with all adapters of
    a single run, and with none. Right, over the weight λ of the second seed: solid *fusion*, dashed
    *ensemble*. Vertical lines and bands are intervals over pairs of seeds, of three or more.
    Lighter markers beside language models: the paper's commonsense averages at λ = 0.5, of which
    second-hand, rounded numbers are all that is known.
    """
    rows = measured_paths(frames)
    if rows.empty:
        return message("Interpolation was not measured: it needs two seeds.")
    tidy = panels.drawable(compare(rows, settings, ["operator", "weight"], differences=False))
    framed = panels.levels(frames, settings)
    found = panels.places(tidy)
    shown = new_figure(8.5, 2.2 * len(found) + 1.1)
    grid = shown.subplots(len(found), 2, squeeze=False, width_ratios=(2, 1))
    arms = ranked("strategy", list(rows["strategy"]))
    for (left, right), (suite, adapter) in zip(grid, found, strict=True):
        ours, lines = (at(part, suite=suite, adapter=adapter) for part in (tidy, framed))
        # The average first, then the tasks unless they are too many; of one task, that one.
        names = sorted(set(ours["task"]) - {AVERAGE})
        some = names if len(names) <= _MAX_TASKS else []
        tasks = names if len(names) == 1 else [AVERAGE, *some]
        _draw_middles(left, ours, lines[lines["task"].isin(tasks)], tasks, arms)
        left.set_title(f"{named((suite, adapter), found)}: half-way", loc="left")
        path = at(ours, task=tasks[0])
        _draw_paths(right, path, arms)
        heights = path["mean"]
        if settings.kind(suite) == "language" and adapter == "lora":
            heights = pd.concat([heights, _draw_paper(right, arms)])
        panels.show_means(right, heights, least=1.0)
        right.set_title("path of the average" if len(names) > 1 else "path", loc="left")
        left.set_ylabel("score (%)")
    grid[-1, 1].set_xlabel("λ (weight of second seed)", fontsize=8)
    legend_above(shown, *grid.flat)
    return shown


def _draw_middles(
    axes: Axes, tidy: pd.DataFrame, framed: pd.DataFrame, tasks: list[str], arms: list[str]
) -> None:
    """The middle of every path, by task, between the scores with all adapters and with none."""
    middle = tidy[((tidy["weight"] - 0.5).abs() < 1e-9) & tidy["task"].isin(tasks)]
    operators = ranked("operator", list(middle["operator"]))
    for i, operator in enumerate(operators):
        shift = 0.44 * (i - (len(operators) - 1) / 2)
        style: dict[str, Any] = {"shift": shift, "hollow": operator != "fusion"}
        dots = at(middle, operator=operator)
        panels.paired_dots(axes, dots, "task", tasks, arms, label=f"{{}}, {operator}", **style)
    axes.set_xlim(-0.6, max(len(tasks), 3) - 0.4)
    axes.set_xticks(range(len(tasks)), [fill(task, 14) for task in tasks])
    panels.level_lines(axes, framed, arms, tasks)
    panels.show_scores(axes, middle, framed[["mean"]])


def _draw_paths(axes: Axes, tidy: pd.DataFrame, arms: list[str]) -> None:
    for arm, operator in product(arms, ranked("operator", list(tidy["operator"]))):
        path, (colour, marker, _) = at(tidy, strategy=arm, operator=operator), look(arms, arm)
        if len(path):
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.5}
            style["markerfacecolor"] = colour if operator == "fusion" else "white"
            style["linestyle"] = {"fusion": "-", "ensemble": "--"}.get(operator, ":")
            label = f"{arm}, {operator}"
            panels.curve(axes, path, "weight", linewidth=1.3, label=label, **style)
    axes.set_xticks([0, 0.5, 1])


def _draw_paper(axes: Axes, arms: list[str]) -> pd.Series:
    """The paper's scores half-way, of commonsense sets; returns their heights, as fractions."""
    heights = []
    for arm, method in PAPER_ARMS.items():
        value = paper_value("lmc_commonsense_lambda0.5", AVERAGE, method, "accuracy(%)")
        heights.append(value.value / 100)
        if arm in arms:
            place, label = (0.5, value.value), f"{arm}, paper ({value.quality})"
            colour, marker, _ = look(arms, arm)
            axes.plot(*place, marker, color=colour, alpha=LIGHT, markersize=7, label=label)
            text = f"paper: {value.value:g}"
            axes.annotate(text, place, (6, 0), textcoords="offset points", va="center", **_GREY)
    return pd.Series(heights)


@figure("merging", needs=("interpolate", "merge", "train", "select", "none", "baseline"))
def draw_merging(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score by merging operator, from vanilla to CoTo, averaged over tasks.

    All tasks in one adapter, and two seeds of a task 1:1. Horizontal lines are the scores with all
    adapters of a single run and with none, of each strategy, and of a probe on the bare backbone
    where there is one. Vertical lines are intervals over seeds, of three or more. *Not defined*:
    the operator has no meaning for this kind of adapter; the tables say why. Lighter marks are the
    paper's averages, ± their standard deviation where it has one; they are of other models, data
    and training lengths.
    """
    merges = ("merge", quantities.merged_scores), ("interpolate", midpoints)
    tidy = {
        stage: panels.averages(rows, settings, ["operator"])
        for stage, scores in merges
        if len(rows := scores(frames[stage]))
    }
    if not tidy:
        return message("Merging was not measured: it needs two tasks or two seeds.")
    framed = overall(panels.levels(frames, settings), ["level"])
    found = panels.places(*tidy.values())
    kinds = dict.fromkeys(settings.kind(suite) or "text" for suite, _ in found)
    known = list(zip(*PAPER.values(), strict=True))
    papers = [row for kind in kinds if (row := [of for of in known if of[0].kind == kind])]
    arms = ranked("strategy", list(pd.concat(tidy.values())["strategy"]))
    columns = max(len(tidy), *map(len, papers), 1)
    shown = new_figure(4.1 * columns + 0.3, 2.3 * (len(found) + len(papers)) + 1.0)
    grid = shown.subplots(len(found) + len(papers), columns, sharey="row", squeeze=False)
    for line, (suite, adapter) in zip(grid, found, strict=False):
        place = {"suite": suite, "adapter": adapter}
        around, drawn = at(framed, **place), []
        for axes, (stage, lines) in zip(line, tidy.items(), strict=False):
            dots = at(lines, **place)
            gaps = at(frames["gaps"], stage=stage, **place)["operator"]
            if _draw(axes, dots, arms, set(gaps)):
                panels.level_lines(axes, around, arms)
                drawn += [dots, around[["mean"]]]
            what = "all tasks in one adapter" if stage == "merge" else "two seeds, 1:1"
            axes.set_title(f"{named((suite, adapter), found)}: {what}", loc="left")
        panels.show_scores(line[0], *drawn)
    for line, row in zip(grid[len(found) :], papers, strict=True):
        drawn = []
        for axes, of in zip(line, row, strict=False):
            marks = []
            for operator, pair in zip(PAPER, of, strict=True):
                for arm, method in ((BASELINE, str(pair.baseline)), (STRATEGY, pair.coto)):
                    value = paper_value(pair.experiment, pair.task, method, pair.metric)
                    marks.append(({"operator": operator, "strategy": arm}, value))
            lines, quality = panels.paper_lines(marks, unit=100)
            _draw(axes, lines, arms, set(), label="{}, paper", light=True)
            drawn.append(lines)
            title = f"paper: {label_of(of[0])} ({quality})"
            axes.set_title(title, loc="left", fontsize=8)
        panels.show_scores(line[0], *drawn)
    for axes in grid[:, 0]:
        axes.set_ylabel("score (%)")
    panels.hide_empty(grid)
    legend_above(shown, *grid.flat)
    return shown


def _draw(
    axes: Axes, dots: pd.DataFrame, arms: list[str], gaps: set[str], **style: Any
) -> list[str]:
    """Operators that were measured, and a word in the place of one that has a gap; their names."""
    missing = gaps - set(dots["operator"])
    operators = ranked("operator", [*dots["operator"], *missing])
    if not operators:
        return []
    panels.paired_dots(axes, dots, "operator", operators, arms, **style)
    for place in sorted(map(operators.index, missing)):
        bottom = axes.get_xaxis_transform()
        turned: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom"}
        axes.text(place, 0.04, "not defined", transform=bottom, **turned, **_GREY)
    places = np.arange(len(operators))
    axes.set_xticks(places, operators, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, max(len(operators), 4) - 0.4)
    return operators
