"""Tables of weights and their gradients: alignment of adapters, geometry of ΔW, gradient norms."""

import pandas as pd

from coto.report.context_analysis import with_alignment, with_geometry
from coto.report.points import points
from coto.report.quantities_analysis import (
    RUN,
    THIRDS,
    alignment,
    gradient_imbalance,
    gradient_shares,
    weight_relations,
    with_third,
)
from coto.report.settings import Settings, Style
from coto.report.table_base import Frames, Quantity, compared, empty, laid_out, table
from coto.report.writing import Table

# Measures of LoRA-align by name, with their name for people and their unit.
_ALIGNMENT = {
    "gap_before": ("‖ΔW_f − ΔW_m‖ before", "norm"),
    "gap_after": ("‖ΔW_f − ΔW_m‖ after", "norm"),
    "reduction": ("share of the gap that is gone", "fraction"),
    "p_norm": ("‖P‖", "norm"),
    "p_distance": ("‖P − I‖", "norm"),
}
_MERGED = {"interpolate": "two seeds", "merge": "all tasks"}
_DISTANCES = {"cosine": "cosine", "euclidean": "norm"}
# Parts of the training by name: the shares after which they begin and up to which they last.
_PERIODS = {"whole": (0.0, 1.0), "first half": (0.0, 0.5), "second half": (0.5, 1.0)}


@table("alignment")
def alignment_table(frames: Frames, settings: Settings, style: Style) -> Table:
    """How far fusion is from ensemble before and after LoRA-align, by third of the layers."""
    title = "LoRA-align: the gap between averaged factors and averaged ΔW"
    rows = alignment(frames["measured"])
    if rows.empty:
        return empty(title, "LoRA-align was not among the operators of merging.")
    parts = [
        Quantity(name, rows[rows["measure"] == measure], unit, differences=False)
        for measure, (name, unit) in _ALIGNMENT.items()
    ]
    by = ["stage", "stack", "third", "measure"]
    lines = with_alignment(compared(parts, settings, by), settings)
    lines = lines.assign(merged=lines["stage"].map(_MERGED))
    stacks = {"stack": "layers of"} if (rows.groupby("suite")["stack"].nunique() > 1).any() else {}
    headings = {"merged": "merged", **stacks, "third": "third"}
    return laid_out(
        title,
        lines,
        rows.iloc[:0],
        headings,
        settings,
        style,
        "ΔW_f is the product of the averaged factors, ΔW_m the average of the products; P replaces "
        "B, A by BP, P⁻¹A in all adapters but the first. Means over the modules of a third of the "
        "layers; the gap that is gone compares these means. Norms are Frobenius norms.",
        "The paper's Figure r8 does not say which runs are aligned; it stands beside two seeds.",
    )


@table("gradients")
def gradients(frames: Frames, settings: Settings, style: Style) -> Table:
    """Share of the gradient norm by third of the layers, and by half of the training."""
    title = "Where gradients go: shares of the norm by third of the layers"
    if frames["gradients"].empty:
        return empty(title, "Gradient norms were not recorded.")
    source = frames["gradients"], frames["select"]
    shares = {name: gradient_shares(*source, *ends) for name, ends in _PERIODS.items()}
    thirds = pd.concat([with_third(rows).assign(period=name) for name, rows in shares.items()])
    thirds = thirds.groupby([*RUN, "period", "third"])["value"].sum().reset_index()
    deviation = pd.concat(
        [gradient_imbalance(*source, *ends).assign(period=n) for n, ends in _PERIODS.items()]
    )
    parts = [Quantity(f"{third} third", thirds[thirds["third"] == third]) for third in THIRDS]
    parts.append(Quantity("deviation from balance", deviation))
    lines = compared(parts, settings, ["period"])
    layers = pd.concat([rows.assign(period=name) for name, rows in shares.items()])
    return laid_out(
        title,
        lines,
        points(layers, settings, ["period", "stack", "layer"]).assign(quantity="layer"),
        {"period": "training"},
        settings,
        style,
        "A layer's norm is that of its adapter's gradient, summed over the steps; a step in which "
        "the layer is off counts 0. Thirds count the layers of each stack.",
        "Deviation from balance: how far the share of the highest third is from its share of the "
        "layers. The CSV has every task and every layer.",
    )


@table("geometry")
def geometry(frames: Frames, settings: Settings, style: Style) -> Table:
    """Cosines and distances of ΔW between runs, and from where training started."""
    title = "Weight geometry: cosine and distance of ΔW"
    if frames["geometry"].empty:
        return empty(title, "Weights were not compared.")
    rows = weight_relations(frames["geometry"], frames["select"])
    angles = rows[rows["relation"] != "vs start"]  # where ΔW = 0, which has none
    parts = [
        Quantity(name, of.assign(value=of[name]), _DISTANCES[name], differences=False)
        for name, of in (("cosine", angles), ("euclidean", rows))
    ]
    lines = compared(parts, settings, ["relation"])
    return laid_out(
        title,
        with_geometry(lines, _DISTANCES),
        rows.iloc[:0],
        {"relation": "relation"},
        settings,
        style,
        "Means over modules, of runs of one task at the learning rates that are used. Intervals "
        "are over pairs of seeds, which share seeds, or over seeds.",
        "Same seed, other strategy: the named strategy and vanilla. vs pretrained compares ΔW with "
        "W₀ itself, which is inferred from the paper's printed numbers; vs start is ‖ΔW‖.",
    )
