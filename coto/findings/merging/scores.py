"""Scores of merges: two or three seeds of a task, and all tasks in one adapter."""

import math
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coto.config.models import Tables
from coto.findings.merging import quantities
from coto.findings.merging.quantities import PAPER, midpoints, path_scores, three_way
from coto.report import panels, tables
from coto.report.comparison import AVERAGE, compare, overall
from coto.report.drawing import LIGHT, Strategies, figure, legend_above, look, message, new_figure
from coto.report.panels import at, named
from coto.report.paper import Reported, paper_value
from coto.report.quantities import BASELINE, STRATEGY, ranked
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.tables import PAPER_ARMS, UNDEFINED, Block, table
from coto.report.writing import Table

# More columns than this would not be legible; the average over tasks stands for them.
_MAX_TASKS = 6
_INDEX = {"adapter": "adapter", "operator": "operator"}
_GREY: dict[str, Any] = {"fontsize": 8, "color": "#555555"}
_DRAWS = (
    "±: standard deviation over an operator's own draws (seeds of clustering or of random masks) "
    "of the same adapters, averaged over tasks and seeds."
)
_PAPER_DRAWS = "The paper's ± is that of its average over tasks, of five draws."
_OPERATORS = (
    "fusion averages A and B, ensemble averages ΔW. What an operator measures of the whole "
    "adapter (error of the truncated decomposition, variance within clusters, gaps) is in the CSV."
)


def _paths(frames: Frames) -> pd.DataFrame:
    """Scores of the operators that were measured at more weights than one."""
    rows = path_scores(frames["interpolate"])
    return rows[rows.groupby(["suite", *_INDEX])["weight"].transform("nunique") > 1]


@table("interpolation", needs=("interpolate",))
def interpolation(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Linear mode connectivity: two seeds of the same arm, mixed with weight λ.

    Shown are the score half-way and the barrier, the largest drop below the straight line between
    both ends; and, where there are three seeds, the score of their equal mixture. *fusion* averages
    the factors A and B, *ensemble* averages ΔW. Means are in percent, with the number of seeds and
    intervals in brackets; full precision and single tasks are in the CSV.
    """
    title = "Linear mode connectivity: the path between two seeds of one run"
    rows = _paths(frames)
    if rows.empty:
        return tables.empty(title, "No paths were measured: they need two seeds.")
    paths = rows[["suite", *_INDEX]].drop_duplicates()
    path = compare(rows, settings, ["operator", "weight"]).assign(quantity="score")
    middle = path[(path["weight"] - 0.5).abs() < 1e-9].assign(quantity="score at λ = 0.5")
    barrier = compare(quantities.barriers(frames["interpolate"]), settings, ["operator"])
    triples = compare(three_way(frames["interpolate"]).merge(paths), settings, ["operator"])
    triples = triples.assign(quantity="score of three seeds 1:1:1")
    more = [*filter(len, (barrier.assign(quantity="barrier"), triples))]
    shown = pd.concat([*filter(len, [middle]), *more]).drop(columns="weight")
    shown = tables.ordered(shown, "operator")
    index = _INDEX | {"quantity": "quantity", "task": "task"}
    display = tables.side_by_side(shown, index, style.decimals).drop(columns="source")
    remarks = (
        "λ is the weight of the second seed. fusion averages A and B, ensemble averages ΔW.",
        "Barrier: how far the path sags below the straight line between its ends, at most; "
        "smaller is better.",
        "One value per pair of seeds, or per three; what shares a seed is not independent.",
    )
    return Table(title, pd.concat([path, *more]), display, tables.notes(settings, shown, *remarks))


@figure("interpolation", needs=("interpolate",))
def draw_interpolation(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score on the path between two seeds of the same arm; λ is the weight of the second seed.

    A row per suite and adapter, a column per task. Solid lines and filled markers average the
    factors A and B (*fusion*), dashed lines and open markers average ΔW (*ensemble*). Bands are
    intervals over pairs of seeds and may reach beyond the picture. Lighter markers beside language
    models: the paper's commonsense averages at λ = 0.5, of which second-hand, rounded numbers are
    all that is known.
    """
    rows = _paths(frames)
    if rows.empty:
        return message("Interpolation was not measured: it needs two seeds.")
    tidy = compare(rows, settings, ["operator", "weight"], differences=False)
    found = panels.places(tidy)
    columns = {}
    for suite, _ in found:
        # The average first, then the tasks unless they are too many; of one task, that one.
        names = sorted(set(at(rows, suite=suite)["task"]))
        some = names if len(names) <= _MAX_TASKS else []
        columns[suite] = names if len(names) == 1 else [AVERAGE, *some]
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
            panels.show_means(axes, heights, least=1.0)
        for axes in line[len(columns[suite]) :]:
            axes.set_visible(False)
        line[0].set_ylabel("score (%)")
    for axes in grid[-1]:
        axes.set_xlabel("λ (weight of second seed)", fontsize=8)
    legend_above(shown, *grid.flat)
    return shown


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


@table("seed_merging", needs=("interpolate",))
def seed_merging(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Adapters of two or three seeds of one arm and task, merged at equal shares by every operator.

    Averages over tasks. Means are in percent, with the number of seeds and intervals in brackets; ±
    is the standard deviation over an operator's own draws. Where an operator is not defined, a note
    says why. Full precision, single tasks and what the operators measured are in the CSV.
    """
    title = "Merging across seeds: adapters of one task at equal shares"
    pairs = midpoints(frames["interpolate"]).assign(merged="1:1")
    triples = three_way(frames["interpolate"]).assign(merged="1:1:1")
    rows = pd.concat([*filter(len, (pairs, triples))] or [pairs])
    if rows.empty:
        return tables.empty(title, "No seeds were merged: they need two seeds, and λ = 0.5.")
    by = ["operator", "merged"]
    gaps, measured = (_of_stage(frames[name], "interpolate") for name in ("gaps", "measured"))
    tidy = _with_measures(compare(rows, settings, by), measured, ["merged", "task"])
    shown = _with_gaps(overall(tidy, by), gaps, by)
    index = _INDEX | {"merged": "seeds merged", "task": "task", "metric": "metric"}
    display = tables.side_by_side(shown, index, style.decimals).drop(columns="source")
    remarks = (
        *_about_operators(shown, gaps),
        "One value per pair of seeds, or per three; what shares a seed is not independent. The "
        "CSV has every task.",
    )
    return Table(
        title, _with_gaps(tidy, gaps, by), display, tables.notes(settings, shown, *remarks)
    )


@table("multitask_merging", needs=("merge",), rebuttal="r1")
def multitask_merging(frames: Frames, settings: Settings, style: Tables) -> Table:
    """The adapters of all tasks of a suite merged into one, each task keeping its own head.

    *fusion* averages the factors A and B, *ensemble* averages ΔW. Means are in percent, with the
    number of seeds and intervals in brackets; ± is the standard deviation over an operator's own
    draws. Where an operator is not defined, a note says why. Full precision and what the operators
    measured are in the CSV.
    """
    title = "Multi-task merging: one adapter for all tasks"
    if frames["merge"].empty:
        reason = "No merges were measured: they need a suite of two or more tasks."
        return tables.empty(title, reason)
    rows = quantities.merged_scores(frames["merge"])
    gaps, measured = (_of_stage(frames[name], "merge") for name in ("gaps", "measured"))
    tidy = _with_measures(compare(rows, settings, ["operator"]), measured, [])
    shown = _with_gaps(_with_paper(tidy, settings), gaps, ["operator"])
    index = _INDEX | {"task": "task", "metric": "metric"}
    display = tables.side_by_side(shown, index, style.decimals)
    most = " or ".join(map(str, sorted(set(rows["merged_tasks"]))))
    remarks = (
        f"{most} tasks merged with equal weights unless configured otherwise.",
        *_about_operators(shown, gaps),
        *about_draws(at(shown, kind="paper"), _PAPER_DRAWS),
        "The merge of one seed is one model for all tasks, so its tasks are not independent.",
    )
    return Table(title, shown, display, tables.notes(settings, shown, *remarks))


def _with_paper(tidy: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """With the paper's averages of merged tasks, pairs of lines by operator."""
    lines = []
    for suite, (operator, numbers) in product(dict.fromkeys(tidy["suite"]), PAPER.items()):
        ours = at(tidy, suite=suite, operator=operator)
        for of in [of for of in numbers if of.kind == (settings.kind(suite) or "text")]:
            methods = {"lora": (str(of.baseline), of.coto)}
            block = Block(f"paper, {_label(of)}", of.experiment, of.task, of.metric, methods)
            more = tables.block_lines(ours, suite, block)
            lines += [line | {"operator": operator} for line in more]
    return tables.append_lines(tidy, lines)


def _label(of: Reported) -> str:
    """The backbone before the tasks."""
    tasks, backbone, *lr = of.label.split(", ")
    return ", ".join([backbone, tasks, *lr])


def _of_stage(rows: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Rows of one stage of merging; ``merged`` says at which shares, such as ``1:1``."""
    rows = rows[rows["stage"] == stage]
    return rows.assign(merged=[":".join("1" * (s.count("-") + 1)) for s in rows["seeds"]])


def _with_measures(tidy: pd.DataFrame, measured: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Add a column for each measure of whole adapters: the mean over seeds, draws and tasks."""
    whole = at(measured, module="")
    if whole.empty:
        return tidy
    each = pd.concat([whole, whole.assign(task=AVERAGE)]) if "task" in by else whole
    place = ["suite", *_INDEX, "strategy", *by]
    means = each.pivot_table("value", place, "measure", "mean").reset_index()
    return tidy.merge(means, on=place, how="left")


def _with_gaps(tidy: pd.DataFrame, gaps: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Add a line for each arm and operator without a score, and sort by operator."""
    keys = ["suite", "adapter", "strategy", *by]
    lines = gaps[keys].drop_duplicates().merge(tidy[keys].drop_duplicates(), "left", indicator=True)
    lines = lines[lines.pop("_merge") == "left_only"]
    if len(lines):
        lines = lines.assign(task=UNDEFINED, metric="", kind="gap", flagged=0, mean=math.nan)
        tidy = pd.concat([tidy, lines.assign(source="not defined")], ignore_index=True)
    return tables.ordered(tidy, *by)


def _about_operators(shown: pd.DataFrame, gaps: pd.DataFrame) -> list[str]:
    """Notes on operators: what they are, their draws, and why some are not defined."""
    undefined = (f"{UNDEFINED} {why}." for why in sorted(set(gaps["reason"])))
    return [_OPERATORS, *about_draws(shown), *undefined]


def about_draws(lines: pd.DataFrame, note: str = _DRAWS) -> list[str]:
    """The note on ± where a line has one."""
    return [note] if "repeat_sd" in lines and lines["repeat_sd"].notna().any() else []


@figure("merging", needs=("interpolate", "merge"))
def draw_merging(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score by merging operator, averaged over tasks: all tasks in one adapter, and two seeds 1:1.

    Error bars are intervals over seeds. *Not defined*: the operator has no meaning for this kind of
    adapter; the tables say why. Lighter bars are the paper's averages, ± their standard deviation
    where it has one; they are of other models, data and training lengths.
    """
    merges = ("merge", quantities.merged_scores), ("interpolate", midpoints)
    tidy = {
        stage: panels.averages(rows, settings, ["operator"])
        for stage, scores in merges
        if len(rows := scores(frames[stage]))
    }
    if not tidy:
        return message("Merging was not measured: it needs two tasks or two seeds.")
    found = panels.places(*tidy.values())
    kinds = dict.fromkeys(settings.kind(suite) or "text" for suite, _ in found)
    known = list(zip(*PAPER.values(), strict=True))
    papers = [row for kind in kinds if (row := [of for of in known if of[0].kind == kind])]
    arms = ranked("strategy", list(pd.concat(tidy.values())["strategy"]))
    columns = max(len(tidy), *map(len, papers), 1)
    shown = new_figure(4.9 * columns + 0.4, 2.2 * (len(found) + len(papers)) + 0.9)
    grid = shown.subplots(len(found) + len(papers), columns, sharey=True, squeeze=False)
    for line, (suite, adapter) in zip(grid, found, strict=False):
        for axes, (stage, lines) in zip(line, tidy.items(), strict=False):
            gaps = at(frames["gaps"], stage=stage, suite=suite, adapter=adapter)["operator"]
            _draw(axes, at(lines, suite=suite, adapter=adapter), arms, set(gaps), light=False)
            what = "all tasks in one adapter" if stage == "merge" else "two seeds of a task, 1:1"
            axes.set_title(f"{named((suite, adapter), found)}: {what}", loc="left")
    for line, row in zip(grid[len(found) :], papers, strict=True):
        for axes, of in zip(line, row, strict=False):
            bars = []
            for operator, pair in zip(PAPER, of, strict=True):
                for arm, method in ((BASELINE, str(pair.baseline)), (STRATEGY, pair.coto)):
                    value = paper_value(pair.experiment, pair.task, method, pair.metric)
                    bars.append(({"operator": operator, "strategy": arm}, value))
            lines, quality = panels.paper_lines(bars, unit=100)
            _draw(axes, lines, arms, set(), light=True)
            axes.set_title(f"paper: {_label(of[0])} ({quality})", loc="left")
    for axes in grid[:, 0]:
        axes.set_ylabel("score (%)")
    panels.hide_empty(grid)
    legend_above(shown, *grid.flat)
    return shown


def _draw(axes: Axes, bars: pd.DataFrame, arms: list[str], gaps: set[str], light: bool) -> None:
    """Bars of the operators that were measured, and a word in the place of one that has a gap."""
    missing = gaps - set(bars["operator"])
    operators = ranked("operator", [*bars["operator"], *missing])
    if not operators:
        return
    panels.grouped_bars(axes, bars, "operator", operators, arms, light=light)
    for place in sorted(map(operators.index, missing)):
        axes.text(place, 4, "not defined", rotation=90, ha="center", va="bottom", **_GREY)
    places = np.arange(len(operators))
    axes.set_xticks(places, operators, rotation=30, ha="right", rotation_mode="anchor")
    axes.set(xlim=(-0.6, max(len(operators), 4) - 0.4), ylim=(0, 100))
