"""LoRA-align: how far fusion is from ensemble, before and after (the authors' Figure r8)."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from coto.config.models import Tables
from coto.findings.layers.quantities import THIRDS, by_place, with_third
from coto.report import tables
from coto.report.drawing import LIGHT, Strategies, figure, look, message, new_figure
from coto.report.panels import at, averages, grouped_bars, paper_lines, stack_names
from coto.report.paper import PaperValue, paper_value
from coto.report.quantities import RUN, labelled, ranked
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.tables import PAPER_ARMS, Quantity, table
from coto.report.writing import Table

# By measure its name for people, its unit, and the column of Figure r8.
_MEASURES = {
    "gap_before": ("‖ΔW_f − ΔW_m‖ before", "norm", "before_diff ||dWf-dWm||2"),
    "gap_after": ("‖ΔW_f − ΔW_m‖ after", "norm", "after_diff"),
    "reduction": ("share of the gap that is gone", "fraction", ""),
    "p_norm": ("‖P‖", "norm", "avg_magnitude_P"),
    "p_distance": ("‖P − I‖", "norm", ""),
}
_MERGED = {"interpolate": "two seeds", "merge": "all tasks"}


def alignment(measured: pd.DataFrame) -> pd.DataFrame:
    """What LoRA-align measured of merges of two seeds and of all tasks (``stage``).

    Means over the modules of a ``third`` of a ``stack``, per ``measure``: ``gap_before`` and
    ``gap_after``, ‖ΔW_f − ΔW_m‖; ``reduction``, the share of the gap that is gone; ``p_norm`` and
    ``p_distance``, ‖P‖ and ‖P − I‖.
    """
    rows = measured[(measured["operator"] == "lora-align") & (measured["module"] != "")]
    rows = rows[~rows["task"].str.endswith("different seeds")]
    rows = with_third(labelled(rows))
    rows = rows[(rows["stage"] == "merge") | (rows["seed"].map(len) == 2)]
    place = ["stage", *RUN, "stack", "third"]
    means = rows.pivot_table("value", place, "measure", "mean").reset_index()
    means = means.reindex(columns=[*place, *sorted(_MEASURES)])
    means["reduction"] = 1 - means["gap_after"] / means["gap_before"]
    return means.melt(place, var_name="measure").dropna(subset="value")


@table("alignment", needs=("interpolate", "merge"))
def alignment_table(frames: Frames, settings: Settings, style: Tables) -> Table:
    """How far fusion is from ensemble before and after LoRA-align, by third of the layers.

    *lora-align* rotates the ranks to bring the average of the factors A and B and the average of ΔW
    together; the table also says by how much it rotated (the authors' Figure r8). Gaps and sizes of
    P are Frobenius norms; the share of the gap that is gone is in percent. The paper's numbers are
    read off its figure, as context.
    """
    title = "LoRA-align: the gap between averaged factors and averaged ΔW"
    rows = alignment(frames["measured"])
    if rows.empty:
        return tables.empty(title, "LoRA-align was not among the operators of merging.")
    parts = [
        Quantity(name, at(rows, measure=measure), unit, differences=False)
        for measure, (name, unit, _) in _MEASURES.items()
    ]
    lines = tables.compared(parts, settings, ["stage", "stack", "third", "measure"])
    more = []
    for suite in tables.lora_suites(lines):
        stacks = sorted(set(at(lines, suite=suite)["stack"]))
        for stack in stacks:
            # Figure r8's text encoder stands beside text, its image encoder beside images.
            image = settings.kind(suite) == "image" if len(stacks) == 1 else "text" not in stack
            encoder = "image" if image else "text"
            for where, value in _paper(encoder):
                name, unit, _ = _MEASURES[where["measure"]]
                place = {"stage": "interpolate", "stack": stack, "quantity": name, "unit": unit}
                label = f"paper, Figure r8, {encoder} encoder"
                columns = {**where, **place, "mean": value.value}
                more.append(tables.lora_line(suite, label, value, **columns))
    lines = tables.append_lines(lines, more)
    lines = lines.assign(merged=lines["stage"].map(_MERGED))
    several = (rows.groupby("suite")["stack"].nunique() > 1).any()
    headings = {"merged": "merged", **({"stack": "layers of"} if several else {}), "third": "third"}
    remarks = (
        "ΔW_f is the product of the averaged factors, ΔW_m the average of the products; P replaces "
        "B, A by BP, P⁻¹A in all adapters but the first. Means over the modules of a third of the "
        "layers; the gap that is gone compares these means. Norms are Frobenius norms.",
        "The paper's Figure r8 does not say which runs are aligned; it stands beside two seeds.",
    )
    return tables.laid_out(title, lines, rows.iloc[:0], headings, settings, style, *remarks)


def _paper(encoder: str) -> Iterator[tuple[dict[str, str], PaperValue]]:
    """An encoder's numbers by third, strategy and measure; how much is gone follows from two."""
    for third, (strategy, method) in product(THIRDS, PAPER_ARMS.items()):
        values = {
            measure: paper_value("alignment_P", f"{encoder}:{third}", f"{method}*", metric)
            for measure, (_, _, metric) in _MEASURES.items()
            if metric
        }
        gone = 1 - values["gap_after"].value / values["gap_before"].value
        values["reduction"] = replace(values["gap_after"], value=gone)
        for measure, value in values.items():
            yield {"third": third, "strategy": strategy, "measure": measure}, value


@figure("alignment", needs=("interpolate", "merge"), rebuttal="r8")
def draw_alignment(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """What LoRA-align changes, by third of the layers, after the authors' Figure r8.

    Left: the distance between fusion and ensemble, ‖ΔW_f − ΔW_m‖, before (outlines) and after
    (filled); right: the norm of the matrices P that turn the ranks. Means over the modules of a
    third of the layers, over tasks and seeds. Lighter bars are the paper's, read by eye.
    """
    rows = alignment(frames["measured"])
    if rows.empty:
        return message("Alignment was not measured: nothing was merged by lora-align.")
    tidy = averages(rows, settings, ["stage", "stack", "third", "measure"])
    arms = ranked("strategy", list(tidy["strategy"]))
    panels = list(_panels(tidy))
    shown = new_figure(8.0, 1.8 * len(panels) + 0.7)
    grid = shown.subplots(len(panels), 2, width_ratios=(3, 2), squeeze=False)
    for axes, (title, lines, light) in zip(grid, panels, strict=True):
        _draw(axes[0], lines, arms, "‖ΔW$_f$ − ΔW$_m$‖", "gap_before", "gap_after", light=light)
        _draw(axes[1], lines, arms, "‖P‖", "p_norm", light=light)
        axes[0].set_title(title, loc="left")
    looks = [(arm, *look(arms, arm)) for arm in arms]
    white: dict[str, Any] = {"edgecolor": "white", "linewidth": 0}
    handles = [
        *(Patch(facecolor="none", edgecolor=c, label=f"{arm}, before") for arm, c, _, _ in looks),
        *(Patch(facecolor=c, hatch=h, label=f"{arm}, after", **white) for arm, c, _, h in looks),
        Patch(facecolor=looks[0][1], alpha=LIGHT, label="lighter: paper"),
    ]
    shown.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return shown


def _panels(tidy: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, bool]]:
    """Title and lines per suite, adapter and encoder: of two seeds, as the paper's, or of tasks."""
    for place, (lines,) in by_place(tidy):
        stage = min(lines["stage"], key=list(_MERGED).index)
        for stack, name in stack_names(lines["stack"]).items():
            title = f"{', '.join(filter(None, (place, name)))}: {_MERGED[stage]} merged"
            yield title, at(lines, stage=stage, stack=stack), False
    for encoder in ("text", "image"):
        lines, quality = paper_lines(_paper(encoder))
        yield f"paper: CLIP ViT-B/16, {encoder} encoder ({quality})", lines, True


def _draw(
    axes: Axes, lines: pd.DataFrame, arms: list[str], label: str, *measures: str, light: bool
) -> None:
    """Bars of measures by third, the gap before as an outline around the one after."""
    for measure in measures:
        looks = {"light": light, "hollow": measure == "gap_before"}
        grouped_bars(axes, at(lines, measure=measure), "third", THIRDS, arms, factor=1, **looks)
    # Intervals, which few seeds make wide, may reach beyond.
    axes.set_ylim(0, 1.15 * lines.loc[lines["measure"].isin(measures), "mean"].max())
    axes.set_xticks(np.arange(len(THIRDS)), [f"{third} third" for third in THIRDS])
    axes.set_ylabel(label)
