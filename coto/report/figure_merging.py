"""The figure of merging: every operator, all tasks in one adapter and two seeds of a task."""

from collections.abc import Collection

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coto.report.drawing import (
    Frames,
    Strategies,
    figure,
    legend_above,
    message,
    new_figure,
    percent_axis,
)
from coto.report.panels import (
    at,
    averages,
    grouped_bars,
    hide_empty,
    named,
    paper_lines,
    places,
)
from coto.report.paper import paper_values
from coto.report.quantities import merged_scores, ranked
from coto.report.quantities_analysis import seed_merges
from coto.report.settings import Settings

# By the kind of a suite's tasks: what the paper merged, and the experiment that holds its scores.
_PAPER = {
    "text": {
        "DeBERTa-v3-base, six GLUE tasks, lr 5e-4": "glue_merge_deberta_v3_lr5e-4",
        "DeBERTa-v3-base, six GLUE tasks, lr 1e-3": "glue_merge_deberta_v3_lr1e-3",
    },
    "language": {"LLaMA-2-7B, nine tasks": "multitask_merge_llama2_7b_9tasks"},
}
_OPERATORS = {
    "Linear Fusion": "fusion",
    "Fusion": "fusion",
    "Ensemble": "ensemble",
    "LoRA-LEGO": "lora-lego",
}


@figure("merging")
def merging(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score by operator: a row per suite and adapter, then the paper's averages."""
    merges = {
        "merge": merged_scores(frames["merge"]),
        "interpolate": seed_merges(frames["interpolate"]),
    }
    measured = {stage: rows for stage, rows in merges.items() if len(rows)}
    if not measured:
        return message("Merging was not measured: it needs two tasks or two seeds.")
    tidy = {stage: averages(rows, settings, ["operator"]) for stage, rows in measured.items()}
    found = places(*tidy.values())
    kinds = dict.fromkeys(settings.kind(suite) or "text" for suite, _ in found)
    papers = [_PAPER[kind] for kind in kinds if kind in _PAPER]
    arms = ranked("strategy", list(pd.concat(tidy.values())["strategy"]))
    columns = max(len(tidy), *(len(paper) for paper in papers), 1)
    shown = new_figure(4.9 * columns + 0.4, 2.2 * (len(found) + len(papers)) + 0.9)
    grid = shown.subplots(len(found) + len(papers), columns, sharey=True, squeeze=False)
    for line, place in zip(grid, found, strict=False):
        for axes, (stage, lines) in zip(line, tidy.items(), strict=False):
            here = dict(zip(("suite", "adapter"), place, strict=True))
            gaps = at(frames["gaps"], stage=stage, **here)
            _draw(axes, at(lines, **here), arms, set(gaps["operator"]))
            what = "all tasks in one adapter" if stage == "merge" else "two seeds of a task, 1:1"
            axes.set_title(f"{named(place, found)}: {what}", loc="left")
    for line, paper in zip(grid[len(found) :], papers, strict=True):
        for axes, (label, experiment) in zip(line, paper.items(), strict=False):
            lines, quality = _paper_averages(experiment)
            _draw(axes, lines, arms, light=True)
            axes.set_title(f"paper: {label} ({quality})", loc="left")
    for axes in grid[:, 0]:
        percent_axis(axes, "score")
    hide_empty(grid)
    legend_above(shown, *grid.flat)
    return shown


def _draw(
    axes: Axes,
    bars: pd.DataFrame,
    arms: list[str],
    gaps: Collection[str] = (),
    *,
    light: bool = False,
) -> None:
    """Bars of the operators that were measured, and a word in the place of one that has a gap."""
    missing = set(gaps) - set(bars["operator"])
    operators = ranked("operator", [*bars["operator"], *missing])
    if not operators:
        return
    grouped_bars(axes, bars, "operator", operators, arms, light=light)
    for place, operator in enumerate(operators):
        if operator in missing:
            axes.text(
                place,
                4,
                "not defined",
                rotation=90,
                ha="center",
                va="bottom",
                fontsize=8,
                color="#555555",
            )
    axes.set_xticks(
        np.arange(len(operators)), operators, rotation=30, ha="right", rotation_mode="anchor"
    )
    axes.set(xlim=(-0.6, max(len(operators), 4) - 0.4), ylim=(0, 100))


def _paper_averages(experiment: str) -> tuple[pd.DataFrame, str]:
    """The paper's averages over tasks by operator, and their quality."""
    return paper_lines(
        (
            (
                {
                    "operator": _OPERATORS[method.removesuffix(" +CoTo")],
                    "strategy": "coto" if method.endswith("+CoTo") else "vanilla",
                },
                value,
            )
            for (task, method, _), value in paper_values(experiment).items()
            if task == "Average" and method.removesuffix(" +CoTo") in _OPERATORS
        ),
        unit=100,
    )
