"""What figures are made of: averages, panels and their names, grouped bars, curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from coto.report.comparison import compare, overall
from coto.report.drawing import LIGHT, look
from coto.report.paper import PaperValue
from coto.report.quantities import ranked
from coto.report.settings import Settings


def averages(rows: pd.DataFrame, settings: Settings, split_by: Sequence[str] = ()) -> pd.DataFrame:
    """The tables' averages over tasks, as :func:`compare` gives them, without the differences."""
    return overall(compare(rows, settings, split_by, differences=False), split_by)


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
