"""The figure of angles and distances between the weights of runs (Figure r4)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from coto.report.drawing import Frames, Strategies, figure, legend_above, message, new_figure
from coto.report.panels import at, averages, grouped_bars, named, paper_lines, places
from coto.report.paper import paper_values
from coto.report.quantities import ranked
from coto.report.quantities_analysis import (
    RELATIONS,
    weight_relations,
)
from coto.report.settings import Settings

_MEASURES = {"cosine": "cosine", "euclidean": "Euclidean distance"}
_PAPER = {
    "SameMethod-DiffSeed": "same strategy, other seed",
    "SameSeed-DiffMethod": "same seed, other strategy",
    "LoRA vs Pretrain": "vs pretrained",
}


@figure("geometry")
def geometry(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Cosine and distance of ΔW by what it is compared with: a row per adapter, then the paper."""
    if frames["geometry"].empty:
        return message("Weights were not compared.")
    rows = weight_relations(frames["geometry"], frames["select"])
    tidy = {
        measure: averages(rows.assign(value=rows[measure]), settings, ["relation"])
        for measure in _MEASURES
    }
    found = places(rows)
    arms = ranked("strategy", list(rows["strategy"]))
    shown = new_figure(9.0, 2.0 * (len(found) + 1) + 0.7)
    grid = shown.subplots(len(found) + 1, 2, sharex=True, squeeze=False)
    for line, (suite, adapter) in zip(grid, found, strict=False):
        for axes, (measure, lines) in zip(line, tidy.items(), strict=True):
            _draw(axes, at(lines, suite=suite, adapter=adapter), arms)
            axes.set_title(f"{named((suite, adapter), found)}: {_MEASURES[measure]}", loc="left")
    for axes, measure in zip(grid[-1], _MEASURES, strict=True):
        lines, quality = _paper_bars(measure)
        _draw(axes, lines, arms, light=True)
        axes.set_title(f"paper: {_MEASURES[measure]} (CLIP, {quality})", loc="left")
    for axes in grid[-1]:
        axes.set_xticks(
            np.arange(len(RELATIONS)), [name.replace(", ", ",\n") for name in RELATIONS]
        )
    legend_above(shown, *grid.flat)
    return shown


def _draw(axes: Axes, lines: pd.DataFrame, arms: list[str], *, light: bool = False) -> None:
    """Bars with their values on top, as the paper prints them."""
    grouped_bars(axes, lines, "relation", RELATIONS, arms, factor=1, light=light)
    for bars in axes.containers:
        if isinstance(bars, BarContainer):
            labels = ["" if np.isnan(v) else f"{v:.2f}" for v in np.asarray(bars.datavalues)]
            axes.bar_label(bars, labels, fontsize=8, padding=1)
    axes.set_ylim(min(0, 1.2 * lines["mean"].min()), 1.25 * lines["mean"].max())


def _paper_bars(measure: str) -> tuple[pd.DataFrame, str]:
    """The printed numbers; what compares the two methods stands, as ours, with CoTo."""
    return paper_lines(
        (
            {
                "relation": _PAPER[relation],
                "strategy": "vanilla" if method == "LoRA" else "coto",
            },
            value,
        )
        for (relation, method, metric), value in paper_values("weight_geometry").items()
        if metric == measure
    )
