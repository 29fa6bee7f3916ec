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
    """The lines of the tables' averages over tasks, without differences, which take long.

    Args:
        rows: ``suite, task, adapter, strategy, seed, value`` and the columns of `split_by`.
        settings: interval level.
        split_by: columns that tell apart what is averaged.

    Returns:
        ``mean``, ``low`` and ``high`` per (suite, adapter, *split_by, strategy).
    """
    return overall(compare(rows, settings, split_by, differences=False), split_by)


def places(*rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Suites and adapters that occur in any of the rows, in the order in which they are shown."""
    found = {
        (suite, adapter)
        for frame in rows
        for suite, adapter in zip(frame["suite"], frame["adapter"], strict=True)
    }
    order = ranked("adapter", [adapter for _, adapter in found])
    return sorted(found, key=lambda place: (place[0], order.index(place[1])))


def named(place: tuple[str, str], among: Sequence[tuple[str, str]]) -> str:
    """Title of a suite and adapter; the suite is told where there are several."""
    return ", ".join(place) if len({suite for suite, _ in among}) > 1 else place[1]


def stack_names(stacks: pd.Series) -> dict[str, str]:
    """Short names of a model's lists of blocks: of the only one, none; of two encoders, theirs."""
    found = sorted(set(stacks))
    if len(found) == 1:
        return {found[0]: ""}
    return {stack: stack.partition(".")[0].removesuffix("_model") for stack in found}


def at(rows: pd.DataFrame, **place: Any) -> pd.DataFrame:
    """The rows with these values in these columns."""
    wanted = pd.Series(True, index=rows.index)
    for column, value in place.items():
        wanted &= rows[column] == value
    return rows[wanted]


def paper_lines(
    values: Iterable[tuple[Mapping[str, str], PaperValue]], unit: float = 1.0
) -> tuple[pd.DataFrame, str]:
    """Numbers of the paper as :func:`grouped_bars` takes them, and how they were obtained.

    Args:
        values: each with the columns that say what it is of, the strategy among them.
        unit: what they are divided by: 100 makes fractions of percent.

    Returns:
        Those columns with ``mean``, ``low`` and ``high``: ± the standard deviation, where the paper
        has one.
    """
    lines, qualities = [], set()
    for place, value in values:
        spread = math.nan if value.std is None else value.std
        ends = {"low": value.value - spread, "high": value.value + spread}
        scaled = {name: end / unit for name, end in {"mean": value.value, **ends}.items()}
        lines.append({**place, **scaled})
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

    Args:
        axes: to draw on; group i stands at x = i.
        lines: ``strategy``, `column`, ``mean``, ``low``, ``high``; one line per bar.
        column: that tells the groups apart.
        groups: its values from left to right; without a line, the place stays empty.
        arms: strategies of the whole figure, which fix colours and places.
        factor: from the unit of the lines to that of the axis.
        light: the paper's numbers.
        hollow: outlines only.
    """
    width = 0.84 / len(arms)
    for i, arm in enumerate(arms):
        bars = at(lines, strategy=arm).set_index(column).reindex(list(groups))
        if bars["mean"].isna().all():
            continue
        colour, _, hatch = look(arms, arm)
        mean, low, high = (factor * bars[name].to_numpy(float) for name in ("mean", "low", "high"))
        axes.bar(
            np.arange(len(groups)) + (i - (len(arms) - 1) / 2) * width,
            mean,
            width * 0.94,
            yerr=[mean - low, high - mean],
            facecolor="none" if hollow else colour,
            hatch="" if hollow else hatch,
            edgecolor=colour if hollow else "white",
            linewidth=1.0 if hollow else 0,
            alpha=LIGHT if light else 1.0,
            error_kw={"linewidth": 0.9, "capsize": 1.5, "alpha": LIGHT if light else 1.0},
            label=f"{arm}, paper" if light else arm,
        )
    axes.grid(visible=False, axis="x")


def curve(axes: Axes, lines: pd.DataFrame, x: str, *, factor: float = 100.0, **style: Any) -> None:
    """A line over `x` with its interval as a band of the same colour.

    Args:
        axes: to draw on.
        lines: `x`, ``mean`` and, where there are, ``low`` and ``high``; one line per point.
        x: column of the horizontal axis.
        factor: from the unit of the lines to that of the axis.
        **style: of the line, as matplotlib takes it.
    """
    path = lines.sort_values(x).reindex(columns=[x, "mean", "low", "high"]).to_numpy(float)
    over, mean, low, high = path[:, 0], *(factor * path[:, 1:].T)
    axes.plot(over, mean, **style)
    if np.isfinite(low).any():
        axes.fill_between(over, low, high, color=style["color"], alpha=0.12, linewidth=0)


def curves(
    axes: Axes, lines: pd.DataFrame, x: str, arms: list[str], *, factor: float = 100.0
) -> None:
    """One :func:`curve` for each strategy of the figure that is in the lines."""
    for arm in arms:
        colour, marker, _ = look(arms, arm)
        path = at(lines, strategy=arm)
        if len(path):
            curve(
                axes,
                path,
                x,
                factor=factor,
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.4,
                label=arm,
            )


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
    """Show the means; intervals, which few seeds make wide, may reach beyond the picture.

    ``least`` is the smallest height that is shown, in units of the axis.
    """
    low, high = factor * means.min(), factor * means.max()
    margin = 0.1 * max(high - low, least)
    axes.set_ylim(low - margin, high + margin)
