"""Claims about single layers: how the model bears their loss, and how evenly they contribute."""

import pandas as pd

from coto.report import quantities_analysis
from coto.report.claim import POOLED, Claim, Frames
from coto.report.quantities import BASELINE
from coto.report.reported import Reported

_STABLE = "CoTo promotes layer-wise dropout stability."
_EVEN = "CoTo leads to a balanced contribution of the layers (cooperative game, Shapley values)."
_NO_SUBSETS = "no suite of this run scores sub-networks"
_OFF_BALANCE = "kind == 'measured' and quantity == 'deviation from balance, {}'"
_TOP_SHARE = Reported(
    "share of the highest 4 of 12 layers, plain LoRA, %",
    "shapley",
    "share of highest 4 of 12 layers",
    "percent",
    "LoRA",
)
# In percentage points of the whole; under a fifth of what the paper's two numbers differ by.
_MARGIN = 5.0


def _off_balance(method: str) -> Reported:
    return Reported(
        f"deviation from balance, {method}, points",
        "shapley",
        "deviation from balance",
        "percentage points (+/-)",
        method,
    )


def _early(frames: Frames) -> pd.DataFrame:
    """CoTo stopped early in the place of CoTo."""
    rows = quantities_analysis.imbalance(frames["subnetworks"], "loss")
    rows = rows[rows["strategy"].isin([BASELINE, "coto-early"])]
    return rows.replace({"strategy": {"coto-early": "coto"}})


LAYERS: dict[str, Claim] = {
    "dropout-stability": Claim(
        statement=_STABLE,
        test="Expected score with each layer's adapters kept with chance q, mean over q from 0 to "
        "1, CoTo minus vanilla.",
        table="dropout_stability",
        rows="quantity == 'mean over q'",
        family="stability",
        quantity=lambda f: quantities_analysis.stability_area(f["subnetworks"]),
        optional=_NO_SUBSETS,
    ),
    "dropout-stability-loss": Claim(
        statement=_STABLE,
        test="What dropping layers costs: the score of all layers minus that of the claim "
        "dropout-stability, CoTo minus vanilla; smaller is better.",
        table="dropout_stability",
        rows="quantity == 'cost: score of all layers − mean over q'",
        family="stability",
        quantity=lambda f: quantities_analysis.stability_loss(f["subnetworks"]),
        direction=-1,
        role="sensitivity",
        caution="An arm whose layers do little has little to lose.",
        apart=False,
        optional=_NO_SUBSETS,
    ),
    "balanced-contribution": Claim(
        statement=_EVEN,
        test="How far the highest third of the layers' share of the Shapley values (in loss) is "
        "from its share of the layers, CoTo minus vanilla; smaller is better.",
        table="shapley",
        rows=_OFF_BALANCE.format("loss"),
        family="balance",
        quantity=lambda f: quantities_analysis.imbalance(f["subnetworks"], "loss"),
        reported={"lora": (_TOP_SHARE, _off_balance("LoRA-CoTo"))},
        direction=-1,
        fixed_margin=_MARGIN,
        caution="Runs whose contributions add up to nearly nothing are left out.",
        optional=_NO_SUBSETS,
    ),
    **{
        name: Claim(
            statement=_EVEN,
            test=f"As balanced-contribution, {what}.",
            table=table,
            rows=rows,
            family="balance",
            quantity=quantity,
            reported=values,
            direction=-1,
            fixed_margin=_MARGIN,
            role="sensitivity",
            apart=False,
            optional=missing,
        )
        for name, what, table, rows, quantity, values, missing in (
            (
                "balanced-contribution-score",
                "in score",
                "shapley",
                _OFF_BALANCE.format("score"),
                lambda f: quantities_analysis.imbalance(f["subnetworks"], "score"),
                {},
                _NO_SUBSETS,
            ),
            (
                "balanced-contribution-early",
                "CoTo stopped early minus vanilla",
                "shapley",
                _OFF_BALANCE.format("loss") + " and strategy in ('vanilla', 'coto-early')",
                _early,
                {POOLED: (_off_balance("early-stopped CoTo"),)},
                "no suite of this run scores sub-networks of early-stopped CoTo",
            ),
            (
                "balanced-gradients",
                "of the gradient norm, summed over the training, instead of Shapley values",
                "gradients",
                "quantity == 'deviation from balance' and period == 'whole'",
                lambda f: quantities_analysis.gradient_imbalance(f["gradients"], f["select"]),
                {},
                "no run recorded its gradients",
            ),
        )
    },
}
