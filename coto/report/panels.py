"""What figures are made of: averages, panels and their names, grouped bars, curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from coto.report.comparison import AVERAGE, compare, overall
from coto.report.drawing import LIGHT, look
from coto.report.paper import PaperValue
from coto.report.quantities import (
    BASELINE,
    RUN,
    STRATEGY,
    headline,
    ranked,
    single_scores,
    worth_of_adapters,
)
from coto.report.records import Frames
from coto.report.settings import Settings


def averages(rows: pd.DataFrame, settings: Settings, split_by: Sequence[str] = ()) -> pd.DataFrame:
    """The tables' averages over tasks, as :func:`compare` gives them, without the differences."""
    return drawable(overall(compare(rows, settings, split_by, differences=False), split_by))


def drawable(tidy: pd.DataFrame) -> pd.DataFrame:
    """Lines of :func:`compare` without the intervals of two values, which are wider than a picture.

    Student's is 13 standard errors wide to each side, and says no more than that there are two.
    """
    few = tidy["n_values"] < 3
    return tidy.assign(**{end: tidy[end].mask(few) for end in ("low", "high")})


def within_scale(tidy: pd.DataFrame) -> pd.DataFrame:
    """Lines with intervals that end where a score can: at 0 (a correlation: at -1) and 1."""
    least = 0.0 if (tidy["mean"].fillna(0) >= 0).all() else -1.0
    return tidy.assign(low=tidy["low"].clip(lower=least), high=tidy["high"].clip(upper=1.0))


def places(*rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Suites and adapters that occur in any of the rows, in the order in which they are shown."""
    pairs = {pair for one in rows for pair in zip(one["suite"], one["adapter"], strict=True)}
    order = ranked("adapter", [adapter for _, adapter in pairs])
    return sorted(pairs, key=lambda place: (place[0], order.index(place[1])))


def named(place: tuple[str, str], among: Sequence[tuple[str, str]]) -> str:
    """Title of a suite and adapter; the suite is told where there are several."""
    return ", ".join(place) if len({suite for suite, _ in among}) > 1 else place[1]


def stack_names(stacks: pd.Series) -> dict[str, str]:
    """Short names of a model's lists of blocks: of the only one, none; of two encoders, theirs."""
    names = sorted(set(stacks))
    if len(names) == 1:
        return {names[0]: ""}
    return {stack: stack.partition(".")[0].removesuffix("_model") for stack in names}


def at(rows: pd.DataFrame, **place: Any) -> pd.DataFrame:
    """The rows with these values in these columns."""
    for column, value in place.items():
        rows = rows[rows[column] == value]
    return rows


def paper_lines(
    values: Iterable[tuple[Mapping[str, str], PaperValue]], unit: float = 1.0
) -> tuple[pd.DataFrame, str]:
    """Numbers of the paper as :func:`grouped_bars` takes them, and how they were obtained.

    Each comes with the columns that say what it is of; a `unit` of 100 makes fractions of percent.
    """
    lines, qualities = [], set()
    for place, value in values:
        mean, spread = value.value, math.nan if value.std is None else value.std
        ends = {"low": (mean - spread) / unit, "high": (mean + spread) / unit}
        lines.append({**place, "mean": mean / unit, **ends})
        qualities.add(value.quality)
    return pd.DataFrame(lines), ", ".join(sorted(qualities))


def grouped_bars(
    axes: Axes,
    lines: pd.DataFrame,
    column: str,
    groups: Sequence[Any],
    arms: list[str],
    *,
    factor: float = 100.0,
    light: bool = False,
    hollow: bool = False,
) -> None:
    """Bars by group, one per strategy, with interval bars where there are intervals.

    ``lines``, one per bar, have ``strategy``, `column`, ``mean``, ``low`` and ``high``. Group i, a
    value of `column`, stands at x = i. ``arms`` are the strategies of the whole figure, which fix
    colours and places; ``light`` is for the paper's numbers, ``hollow`` draws outlines only.
    """
    width, alpha = 0.84 / len(arms), LIGHT if light else 1.0
    for i, arm in enumerate(arms):
        bars = at(lines, strategy=arm).set_index(column).reindex(list(groups))
        if bars["mean"].isna().all():
            continue
        colour, _, hatch = look(arms, arm)
        mean, low, high = (factor * bars[name].to_numpy(float) for name in ("mean", "low", "high"))
        x = np.arange(len(groups)) + (i - (len(arms) - 1) / 2) * width
        style: dict[str, Any] = {"label": f"{arm}, paper" if light else arm, "alpha": alpha}
        style["error_kw"] = {"linewidth": 0.9, "capsize": 1.5, "alpha": alpha}
        if hollow:
            style |= {"facecolor": "none", "edgecolor": colour, "linewidth": 1.0}
        else:
            style |= {"facecolor": colour, "edgecolor": "white", "linewidth": 0, "hatch": hatch}
        axes.bar(x, mean, width * 0.94, yerr=[mean - low, high - mean], **style)
    axes.grid(visible=False, axis="x")


def paired_dots(
    axes: Axes,
    lines: pd.DataFrame,
    column: str,
    groups: Sequence[Any],
    arms: list[str],
    *,
    label: str = "{}",
    shift: float = 0.0,
    light: bool = False,
    hollow: bool = False,
) -> None:
    """Scores by group, one mark per strategy, and a line from the baseline to CoTo.

    ``lines`` and ``arms`` are as :func:`grouped_bars` takes them; marks of group i stand around
    x = i + ``shift``. Intervals are drawn as far as the scale of scores goes.
    """
    if lines.empty:
        return
    alpha, step = LIGHT if light else 1.0, min(0.22, 0.7 / len(arms))
    heights: dict[str, np.ndarray] = {}
    for i, arm in enumerate(arms):
        marks = within_scale(at(lines, strategy=arm)).set_index(column).reindex(list(groups))
        mean, low, high = (100 * marks[name].to_numpy(float) for name in ("mean", "low", "high"))
        if np.isnan(mean).all():
            continue
        colour, marker, _ = look(arms, arm)
        x = np.arange(len(groups)) + shift + (i - (len(arms) - 1) / 2) * step
        heights[arm] = np.stack([x, mean])
        axes.vlines(x, low, high, color=colour, linewidth=1.0, alpha=alpha)
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5}
        style |= {"alpha": alpha, "linestyle": "none", "zorder": 3, "label": label.format(arm)}
        axes.plot(x, mean, **style | ({"markerfacecolor": "white"} if hollow else {}))
    if {BASELINE, STRATEGY} <= heights.keys():
        (x0, y0), (x1, y1) = heights[BASELINE], heights[STRATEGY]
        axes.plot([x0, x1], [y0, y1], color="#777777", linewidth=0.8, alpha=alpha, zorder=2)
    axes.grid(visible=False, axis="x")


# How the scores are drawn that frame whatever is done to adapters.
LEVELS = {"all": "-", "none": ":", "probe": "-."}


def levels(frames: Frames, settings: Settings, *pruned: pd.DataFrame) -> pd.DataFrame:
    """Scores with all adapters, with none, and of a probe on the bare backbone, where measured.

    Lines as of :func:`compare`, of every task and averaged, with their ``level``; a probe has no
    strategy. ``pruned`` are rows of *all* and of *none* that take the place of the runs' own scores
    where there are any, since they are of the same items as other prunings.
    """
    bare = worth_of_adapters(frames).rename(columns={"none": "value"})
    parts = {"all": single_scores(frames), "none": bare}
    parts |= {level: rows for level, rows in zip(parts, pruned, strict=False) if len(rows)}
    rows = [part.assign(level=level)[[*RUN, "level", "value"]] for level, part in parts.items()]
    lines = compare(pd.concat(rows), settings, ["level"], differences=False)
    baseline = frames.get("baseline", pd.DataFrame(columns=["method"]))
    probe = headline(at(baseline, method="probe")) if len(baseline) else baseline
    if probe.empty:
        return lines
    each = probe.groupby(["suite", "task"])["value"].mean().rename("mean").reset_index()
    average = each.groupby("suite")["mean"].mean().reset_index().assign(task=AVERAGE)
    places = lines[["suite", "adapter", "task"]].drop_duplicates()
    found = places.merge(pd.concat([each, average])).assign(level="probe", strategy="")
    return pd.concat([lines, found], ignore_index=True)


def level_lines(
    axes: Axes, lines: pd.DataFrame, arms: list[str], tasks: Sequence[str] | None = None
) -> None:
    """Draw :func:`levels`, in the colour of their strategy, from end to end of the panel.

    Where ``tasks`` stand side by side, those of a task only where it stands.
    """
    for _, line in lines.iterrows():
        level, arm = line["level"], line["strategy"]
        style: dict[str, Any] = {"linewidth": 1.1, "zorder": 1, "linestyle": LEVELS[level]}
        style["color"] = look(arms, arm)[0] if arm in arms else "#777777"
        style["label"] = f"{arm}, {level}" if arm in arms else level
        ends = axes.get_xlim()
        if tasks is not None:
            ends = (tasks.index(line["task"]) - 0.43, tasks.index(line["task"]) + 0.43)
        axes.hlines(100 * line["mean"], *ends, **style)


def show_scores(axes: Axes, *lines: pd.DataFrame, least: float = 5.0) -> None:
    """Begin and end the axis of scores where these lines do, intervals among them.

    ``least`` is the smallest range, in points.
    """
    every = within_scale(pd.concat([one for one in lines if len(one)]))
    values = 100 * every.reindex(columns=["mean", "low", "high"]).to_numpy(float)
    low, high = np.nanmin(values), np.nanmax(values)
    space = 0.06 * max(high - low, least) + max(0.0, least - (high - low)) / 2
    axes.set_ylim(low - space, high + space)


def curve(axes: Axes, lines: pd.DataFrame, x: str, *, factor: float = 100.0, **style: Any) -> None:
    """A line over the column `x`, with its interval, where it has one, as a band of its colour."""
    path = lines.sort_values(x).reindex(columns=[x, "mean", "low", "high"]).to_numpy(float)
    over, mean, low, high = path[:, 0], *(factor * path[:, 1:].T)
    axes.plot(over, mean, **style)
    if np.isfinite(low).any():
        axes.fill_between(over, low, high, color=style["color"], alpha=0.12, linewidth=0)


def curves(
    axes: Axes, lines: pd.DataFrame, x: str, arms: list[str], *, label: str = "{}", **style: Any
) -> None:
    """One :func:`curve` for each strategy of the figure that is in the lines."""
    style = {"markersize": 4, "linewidth": 1.4} | style
    for arm in arms:
        path, (colour, marker, _) = at(lines, strategy=arm), look(arms, arm)
        if len(path):
            curve(axes, path, x, color=colour, marker=marker, label=label.format(arm), **style)


def hide_empty(grid: np.ndarray) -> None:
    """Hide the panels that nothing was drawn in; what they share with others moves to these."""
    for axes in grid.flat:
        axes.set_visible(axes.has_data())
    for column in grid.T:
        seen = [axes for axes in column if axes.get_visible()]
        for axes in seen[:1]:
            axes.set_title(column[0].get_title())
        for axes in seen[-1:]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(column[-1].get_xlabel())
    for line in grid:
        for axes in [axes for axes in line if axes.get_visible()][:1]:
            axes.tick_params(labelleft=True)
            axes.set_ylabel(line[0].get_ylabel())


def show_means(axes: Axes, means: pd.Series, *, factor: float = 100.0, least: float = 5.0) -> None:
    """Show the means, ``least`` units of the axis or more; wide intervals may reach beyond it."""
    low, high = factor * means.min(), factor * means.max()
    margin = 0.1 * max(high - low, least)
    axes.set_ylim(low - margin, high + margin)
