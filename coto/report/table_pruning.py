"""Tables of adapters pruned without retraining: whole adapters, or single entries."""

from coto.report import quantities
from coto.report.comparison import compare, overall
from coto.report.context import with_clip
from coto.report.context_analysis import with_unstructured
from coto.report.display import side_by_side
from coto.report.points import points
from coto.report.quantities_analysis import sparsity_area, unstructured
from coto.report.settings import Settings, Style
from coto.report.table_base import Frames, Quantity, compared, empty, laid_out, notes, table
from coto.report.table_merging import DRAWS
from coto.report.writing import Table


@table("pruning")
def pruning(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores after removing adapters without retraining, beside the paper's CLIP averages."""
    title = "Structured pruning without retraining, average over tasks"
    rows = quantities.structured(frames["prune"])
    if rows.empty:
        return empty(title, "Pruning was not measured.")
    tidy = compare(rows, settings, ["keep"])
    kept = rows.groupby(["suite", "adapter", "keep"])[["adapters_kept", "adapters_total"]].first()
    tidy = tidy.merge(kept.reset_index(), on=["suite", "adapter", "keep"], how="left")
    shown = overall(tidy)
    shown = shown.assign(
        share=shown["adapters_kept"].astype(str) + "/" + shown["adapters_total"].astype(str)
    )
    index = {"adapter": "adapter", "keep": "kept", "share": "adapters"}
    display = side_by_side(shown, index, style.decimals).drop(columns="source")
    display, tidy, quality = with_clip(display, tidy)
    found = notes(
        settings,
        shown,
        "odd and even keep every other layer; low, middle and high a third of the layers; query, "
        "key and value one projection. The CSV has every task.",
        f"The paper's column is another suite ({quality}; rebuttal figure r7 in the authors' "
        "repository; both arms the authors' own runs) and its everyother stands beside both "
        "parities.",
    )
    return Table(title, tidy, display, found)


@table("unstructured_pruning")
def unstructured_pruning(frames: Frames, settings: Settings, style: Style) -> Table:
    """Score with half of the entries gone, and over all sparsities; whole curves in the CSV."""
    title = "Unstructured pruning without retraining, average over tasks"
    rows = unstructured(frames["prune"])
    if rows.empty:
        return empty(title, "Unstructured pruning was not measured.")
    half = "score at 50 % sparsity"
    lines = compared(
        [
            Quantity("mean over sparsities", sparsity_area(frames["prune"])),
            Quantity(half, rows[(rows["sparsity"] - 0.5).abs() < 1e-9]),
        ],
        settings,
        ["method"],
    )
    curves = points(rows, settings, ["method", "sparsity"]).assign(quantity="score")
    grid = ", ".join(f"{100 * sparsity:.3g}" for sparsity in sorted(set(rows["sparsity"])))
    return laid_out(
        title,
        with_unstructured(lines, half),
        curves,
        {"method": "method"},
        settings,
        style,
        "A method's name says what goes first (the smallest magnitudes, or any), of what (entries "
        "of A and B, or of ΔW), and where entries are ranked (all layers together, or each).",
        f"Mean over sparsities: area under the curve over {grid} %, by the trapezoid rule, divided "
        "by its width. The CSV has every task and every sparsity.",
        *([DRAWS] if "repeat_sd" in lines and lines["repeat_sd"].notna().any() else []),
    )
