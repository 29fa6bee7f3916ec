"""The figure of LoRA-align: how far fusion is from ensemble, before and after (Figure r8)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from coto.report import quantities_analysis
from coto.report.drawing import LIGHT, Frames, Strategies, figure, look, message, new_figure
from coto.report.panels import at, averages, grouped_bars, named, paper_lines, places, stack_names
from coto.report.paper import paper_values
from coto.report.quantities import ranked
from coto.report.quantities_analysis import THIRDS
from coto.report.settings import Settings

_PAPER = {
    "before_diff ||dWf-dWm||2": "gap_before",
    "after_diff": "gap_after",
    "avg_magnitude_P": "p_norm",
}
_ARMS = {"LoRA*": "vanilla", "LoRA-CoTo*": "coto"}
_MERGES = {"interpolate": "two seeds merged 1:1", "merge": "all tasks merged"}


@figure("alignment")
def alignment(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Gap and rotation by third of the layers: a row per suite, adapter and encoder."""
    rows = quantities_analysis.alignment(frames["measured"])
    if rows.empty:
        return message("Alignment was not measured: nothing was merged by lora-align.")
    tidy = averages(rows, settings, ["stage", "stack", "third", "measure"])
    arms = ranked("strategy", list(tidy["strategy"]))
    ours, paper = _panels(tidy), _paper_panels()
    shown = new_figure(8.0, 1.8 * len(ours + paper) + 0.7)
    grid = shown.subplots(len(ours + paper), 2, width_ratios=(3, 2), squeeze=False)
    for i, (line, (title, lines)) in enumerate(zip(grid, ours + paper, strict=True)):
        _draw(line[0], line[1], lines, arms, light=i >= len(ours))
        line[0].set_title(title, loc="left")
    _legend(shown, arms)
    return shown


def _panels(tidy: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Title and lines per suite, adapter and encoder: of two seeds, as the paper's, or of tasks."""
    found = places(tidy)
    panels = []
    for suite, adapter in found:
        here = at(tidy, suite=suite, adapter=adapter)
        stage = min(here["stage"], key=list(_MERGES).index)
        for stack, name in stack_names(here["stack"]).items():
            where = ", ".join(filter(None, (named((suite, adapter), found), name)))
            panels.append((f"{where}: {_MERGES[stage]}", at(here, stage=stage, stack=stack)))
    return panels


def _paper_panels() -> list[tuple[str, pd.DataFrame]]:
    values = paper_values("alignment_P").items()
    lines, quality = paper_lines(
        (
            dict(zip(("encoder", "third"), place.split(":"), strict=True))
            | {"strategy": _ARMS[method], "measure": _PAPER[metric]},
            value,
        )
        for (place, method, metric), value in values
    )
    return [
        (f"paper: CLIP ViT-B/16, {encoder} encoder ({quality})", at(lines, encoder=encoder))
        for encoder in dict.fromkeys(lines["encoder"])
    ]


def _draw(left: Axes, right: Axes, lines: pd.DataFrame, arms: list[str], *, light: bool) -> None:
    """Left: the gap, before as an outline around after; right: how much the ranks were turned."""
    for axes, measures in ((left, ("gap_before", "gap_after")), (right, ("p_norm",))):
        for measure in measures:
            bars = at(lines, measure=measure)
            hollow = measure == "gap_before"
            grouped_bars(axes, bars, "third", THIRDS, arms, factor=1, light=light, hollow=hollow)
        # Intervals, which few seeds make wide, may reach beyond.
        axes.set_ylim(0, 1.15 * lines.loc[lines["measure"].isin(measures), "mean"].max())
        axes.set_xticks(np.arange(len(THIRDS)), [f"{third} third" for third in THIRDS])
    left.set_ylabel("‖ΔW$_f$ − ΔW$_m$‖")
    right.set_ylabel("‖P‖")


def _legend(shown: Figure, arms: list[str]) -> None:
    looks = [(arm, *look(arms, arm)) for arm in arms]
    handles = [
        *(Patch(facecolor="none", edgecolor=c, label=f"{arm}, before") for arm, c, _, _ in looks),
        *(
            Patch(facecolor=c, hatch=hatch, edgecolor="white", linewidth=0, label=f"{arm}, after")
            for arm, c, _, hatch in looks
        ),
        Patch(facecolor=looks[0][1], alpha=LIGHT, label="lighter: paper"),
    ]
    shown.legend(handles=handles, loc="outside upper center", ncols=len(handles))
