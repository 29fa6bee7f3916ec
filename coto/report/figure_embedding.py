"""The figure that maps the runs of a task by their weights (Figure r9)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from coto.report.drawing import Frames, Strategies, figure, look, message, new_figure
from coto.report.panels import at, named, places
from coto.report.quantities import ranked
from coto.report.settings import Settings

# More columns than this would not be legible.
_MAX_TASKS = 6
# t-SNE needs so many runs.
_FEWEST = 4
_MARKERS = "osDhp8v^<>XP*d"
_RUN = ["strategy", "lr", "seed"]


@figure("embedding")
def embedding(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """The runs of a task by t-SNE of the distances between their ΔW: a row per adapter."""
    rows = frames["geometry"]
    if rows.empty:
        return message("Weights were not compared.")
    found = places(rows)
    arms = ranked("strategy", list(rows["strategy"]))
    rates = sorted(set(rows["lr"]))
    tasks = [sorted(set(at(rows, suite=s, adapter=a)["task"]))[:_MAX_TASKS] for s, a in found]
    count = max(map(len, tasks))
    shown = new_figure(max(5.0, 2.2 * count + 0.3), 2.3 * len(found) + 0.9)
    grid = shown.subplots(len(found), count, squeeze=False)
    for line, (suite, adapter), names in zip(grid, found, tasks, strict=True):
        for axes in line[len(names) :]:
            axes.set_visible(False)
        for axes, task in zip(line, names, strict=False):
            here = at(rows, suite=suite, adapter=adapter, task=task)
            _draw_runs(axes, here, arms, rates, settings.seed)
            axes.set_title(f"{named((suite, adapter), found)}\n{task}")
            axes.set(xticks=(), yticks=())
            axes.margins(0.15)
    _legend(shown, arms, rates)
    return shown


def _draw_runs(
    axes: Axes, rows: pd.DataFrame, arms: list[str], rates: list[float], seed: int
) -> None:
    """Each run as a marker with its seed in it."""
    from coto.analysis.geometry import embed  # slow to import, and few reports need it

    runs = sorted(
        rows[_RUN].drop_duplicates().itertuples(index=False, name=None),
        key=lambda run: (arms.index(run[0]), *run[1:]),
    )
    if len(runs) < _FEWEST:
        few = f"{len(runs)} run{'s' * (len(runs) != 1)}:\ntoo few for t-SNE"
        axes.text(0.5, 0.5, few, transform=axes.transAxes, ha="center", va="center", fontsize=8)
        return
    for (strategy, lr, number), (x, y) in zip(
        runs, embed(_distances(rows, runs), seed), strict=True
    ):
        marker = _MARKERS[rates.index(lr) % len(_MARKERS)]
        axes.plot(
            x,
            y,
            marker=marker,
            markersize=11,
            color=look(arms, strategy)[0],
            markeredgecolor="white",
        )
        axes.annotate(
            str(number), (x, y), ha="center", va="center_baseline", fontsize=8, color="white"
        )


def _distances(rows: pd.DataFrame, runs: list[tuple[str, float, int]]) -> NDArray[np.float64]:
    """Distances between runs (n, n); each pair stands once in the rows."""
    index = {run: i for i, run in enumerate(runs)}
    found = np.zeros((len(runs), len(runs)))
    pairs = rows[rows["other_seed"] >= 0]
    for *ends, distance in pairs[[*_RUN, *(f"other_{c}" for c in _RUN), "distance"]].to_numpy():
        i, j = index[tuple(ends[:3])], index[tuple(ends[3:])]
        found[i, j] = found[j, i] = distance
    return found


def _legend(shown: Figure, arms: list[str], rates: list[float]) -> None:
    handles = [
        Line2D([], [], linestyle="none", marker="o", color=look(arms, arm)[0], label=arm)
        for arm in arms
    ]
    handles += [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=_MARKERS[i % len(_MARKERS)],
            color="#777777",
            label=f"learning rate {rate:g}",
        )
        for i, rate in enumerate(rates)
    ]
    handles.append(
        Line2D([], [], linestyle="none", marker="$1$", color="#777777", label="number: seed")
    )
    shown.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4))
