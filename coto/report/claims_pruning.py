"""Claims about pruning: whole adapters removed, and single entries set to zero."""

import pandas as pd

from coto.report import quantities, quantities_analysis, reported
from coto.report.claim import POOLED, Claim, Frames
from coto.report.quantities import ARM
from coto.report.reported import Reported

METHOD = "magnitude-factors-global"
_ROBUST = "CoTo improves pruning robustness."
_SPARSE = "CoTo improves robustness to unstructured pruning at growing sparsity."
_REPORTED = (*reported.vision("pruning everyother acc(%)"), reported.EVERY_OTHER)
_HALF_SPARSE = Reported(
    "gap at 50 % sparsity, points",
    "pruning_unstructured_50pct",
    "gap",
    "percentage points",
    "LoRA-CoTo minus LoRA",
)


def _area(frames: Frames) -> pd.DataFrame:
    rows = quantities_analysis.sparsity_area(frames["prune"])
    return rows[rows["method"] == METHOD]


def _other_areas(frames: Frames) -> pd.DataFrame:
    rows = quantities_analysis.sparsity_area(frames["prune"])
    rows = rows[rows["method"] != METHOD]
    return rows.groupby([*ARM, "seed"])["value"].mean().reset_index()


def _half_sparse(frames: Frames) -> pd.DataFrame:
    rows = quantities_analysis.unstructured(frames["prune"])
    return rows[(rows["method"] == METHOD) & ((rows["sparsity"] - 0.5).abs() < 1e-9)]


PRUNING: dict[str, Claim] = {
    "pruning": Claim(
        statement=_ROBUST,
        test="Mean score over the structured prunings (both parities of every other layer count "
        "as one), CoTo minus vanilla.",
        table="pruning",
        rows="keep != 'all'",
        family="pruning",
        quantity=lambda f: quantities.pruned_mean(f["prune"]),
        reported={"lora": _REPORTED},
        needs="pruned scores of both arms",
    ),
    "pruning-everyother": Claim(
        statement=_ROBUST,
        test="Score with every other layer's adapters removed, mean of both parities, "
        "CoTo minus vanilla.",
        table="pruning",
        rows="keep in ('odd', 'even')",
        family="pruning",
        quantity=lambda f: quantities.every_other(f["prune"]),
        reported={"lora": _REPORTED},
        needs="pruned scores of both arms",
        role="sensitivity",
    ),
    "unstructured-pruning": Claim(
        statement=_SPARSE,
        test="Mean score over the sparsities (area under the curve, divided by its width) with the "
        "smallest entries of all factors A and B set to zero, CoTo minus vanilla.",
        table="unstructured_pruning",
        rows=f"method == '{METHOD}' and quantity == 'mean over sparsities'",
        family="pruning",
        quantity=_area,
        reported={"lora": (_HALF_SPARSE,)},
        optional="no suite of this run prunes single entries by their magnitude",
    ),
    "unstructured-pruning-half": Claim(
        statement=_SPARSE,
        test="As unstructured-pruning, the score at 50 % sparsity.",
        table="unstructured_pruning",
        rows=f"method == '{METHOD}' and quantity == 'score at 50 % sparsity'",
        family="pruning",
        quantity=_half_sparse,
        reported={POOLED: (_HALF_SPARSE,)},
        role="sensitivity",
        apart=False,
        optional="no suite of this run prunes half of the entries",
    ),
    "unstructured-pruning-methods": Claim(
        statement=_SPARSE,
        test="As unstructured-pruning, mean over the other ways to choose entries: per layer, of "
        "ΔW, at random.",
        table="unstructured_pruning",
        rows=f"method != '{METHOD}' and quantity == 'mean over sparsities'",
        family="pruning",
        quantity=_other_areas,
        role="sensitivity",
        apart=False,
        optional="no suite of this run chooses entries in another way",
    ),
}
