"""The figure of training time."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from coto.report import quantities
from coto.report.comparison import compare
from coto.report.context import time_saved
from coto.report.drawing import (
    LIGHT,
    Frames,
    Strategies,
    figure,
    legend_above,
    look,
    message,
    new_figure,
)
from coto.report.quantities import BASELINE, ranked
from coto.report.settings import Settings


@figure("training_time")
def training_time(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Time per optimizer step of each arm, with the share saved and the active adapters."""
    if frames["overhead"].empty:
        return message("Training time was not measured.")
    times = compare(quantities.step_times(frames["overhead"]), settings, average=False)
    active = frames["overhead"].groupby(quantities.ARM)["active_share"].mean()
    arms = ranked("strategy", list(times["strategy"]))
    suites = list(dict.fromkeys(times["suite"]))
    bars = [max(1, len(times.loc[times["suite"] == suite, "adapter"].unique())) for suite in suites]
    shown = new_figure(5.6, 0.42 * sum(bars) * len(arms) + 0.8 * len(suites) + 0.7)
    grid = shown.subplots(len(suites), 1, height_ratios=bars, squeeze=False)[:, 0]
    for axes, suite in zip(grid, suites, strict=True):
        # Suites differ by orders of magnitude: each has an axis of its own.
        _draw_times(axes, times[times["suite"] == suite], active, arms)
        if len(suites) > 1:
            axes.set_title(suite, loc="left")
    legend_above(shown, grid[0])
    return shown


def _draw_times(axes: Axes, times: pd.DataFrame, active: pd.Series, arms: list[str]) -> None:
    places = times[["suite", "adapter", "task"]].drop_duplicates().to_numpy().tolist()
    unit, factor = ("ms", 1000) if times["mean"].max() < 1 else ("s", 1)
    for i, arm in enumerate(arms):
        colour, _, hatch = look(arms, arm)
        for j, (suite, adapter, task) in enumerate(places):
            place = times[(times["suite"] == suite) & (times["adapter"] == adapter)]
            place = place[place["task"] == task].set_index("strategy")
            if arm not in place.index:
                continue
            bar = place.loc[arm]
            y = j + (i - (len(arms) - 1) / 2) * 0.8 / len(arms)
            error = np.array([[bar["mean"] - bar["low"]], [bar["high"] - bar["mean"]]])
            axes.barh(
                y,
                factor * bar["mean"],
                0.74 / len(arms),
                xerr=factor * error,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                error_kw={"linewidth": 1.0, "capsize": 2},
                label=arm if j == 0 else None,
            )
            text = f"{100 * active[(suite, task, adapter, arm)]:.0f} % of adapters on"
            if arm != BASELINE and BASELINE in place.index:
                saved = 100 * (1 - bar["mean"] / place.loc[BASELINE, "mean"])
                text = f"{saved:.1f} % {'less' if saved >= 0 else 'more'} time, {text}".replace(
                    "-", ""
                )
            axes.text(
                0.02 * factor * times["mean"].max(),
                y,
                text,
                va="center",
                fontsize=8,
                color="white",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2},
            )
    for j, (suite, adapter, task) in enumerate(places):
        here = times[(times["suite"] == suite) & (times["adapter"] == adapter)]
        _draw_paper(axes, here[here["task"] == task].set_index("strategy"), j, arms, factor)
    axes.set_yticks(range(len(places)), [adapter for _, adapter, _ in places])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"time per optimizer step ({unit})")


def _draw_paper(axes: Axes, times: pd.DataFrame, y: int, arms: list[str], factor: float) -> None:
    """Where CoTo's bar would end if it saved what it does in the paper."""
    adapter = times["adapter"].iloc[0]
    paper = time_saved(adapter)
    if paper is None or not {BASELINE, "coto"} <= set(times.index):
        return
    end = factor * float(times["mean"][BASELINE]) * (1 - paper.value / 100)
    place = y + (arms.index("coto") - (len(arms) - 1) / 2) * 0.8 / len(arms)
    edge = place + 0.37 / len(arms)  # clear of the bar's text
    colour, marker, _ = look(arms, "coto")
    red, green, blue = (LIGHT * part + 1 - LIGHT for part in to_rgb(colour))
    axes.plot(
        end, edge, marker=marker, markersize=8, color=(red, green, blue), markeredgecolor="#333333"
    )
    axes.annotate(
        f"paper: {paper.value:.1f} % less ({paper.quality})",
        (1.03 * axes.get_xlim()[1], place),
        annotation_clip=False,
        va="center",
        fontsize=8,
        color="#555555",
    )
