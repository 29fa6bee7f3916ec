"""What single layers contribute, what dropping them costs, how they train; the claims about it.

Every quantity has rows with ``suite, task, adapter, strategy, seed, value``, plus what it is split
by. Scores are fractions, losses nats.
"""

from typing import Any

import pandas as pd

from coto.report.claim import CLAIMS, POOLED, Claim
from coto.report.panels import at, named, places
from coto.report.paper import Reported
from coto.report.quantities import BASELINE, ORDER, RUN, STRATEGY, final_runs, mean_height
from coto.report.records import Frames
from coto.report.sensitivity import WORTH

Places = list[tuple[str, list[pd.DataFrame]]]
THIRDS = ORDER["third"]
# Units of what sub-networks are measured by.
UNITS = {"score": "fraction", "loss": "nats"}
EARLY = "coto-early is CoTo as it was when its training might have been stopped."
_SMALLEST_SUM = {"score": 0.005, "loss": 0.01}


def by_place(*frames: pd.DataFrame) -> Places:
    """Title of every suite and adapter, in the order of figures, and its rows of each frame."""
    found = places(*frames)
    return [
        (named(place, found), [at(rows, suite=place[0], adapter=place[1]) for rows in frames])
        for place in found
    ]


def stability_curve(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Expected score or loss when each layer's adapter is kept with chance ``x``."""
    return at(subnetworks, analysis="stability", measure=measure)


def stability_area(subnetworks: pd.DataFrame) -> pd.DataFrame:
    """Mean score over the chances of :func:`stability_curve`."""
    return mean_height(stability_curve(subnetworks, "score"), "x", RUN)


def stability_loss(subnetworks: pd.DataFrame) -> pd.DataFrame:
    """What dropping layers costs: the score of all layers minus :func:`stability_area`."""
    whole = at(stability_curve(subnetworks, "score"), x=1)[[*RUN, "value"]]
    rows = stability_area(subnetworks).merge(whole, on=RUN, suffixes=("_area", ""))
    return rows.assign(value=rows["value"] - rows["value_area"]).drop(columns="value_area")


def contributions(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Shapley value φ of every ``player``; of ``loss``, positive where the player lowers it."""
    rows = at(subnetworks, analysis="shapley", measure=measure)
    return rows[rows["player"] != "total"]


def with_third(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``third``: where in its stack a row's layer lies, counting the layers that occur.

    The highest third is that of :func:`coto.analysis.shapley.top_third_share`.
    """
    stack = [rows[name] for name in ("suite", "adapter", "stack")]
    layers = rows["layer"].astype(float).groupby(stack)
    number, count = layers.rank("dense"), layers.transform("nunique")
    position = (number > (count / 3).round()).astype(int) + (number > (2 * count / 3).round())
    return rows.assign(third=position.map(dict(enumerate(THIRDS))))


def top_share(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Share of Σφ that the highest third of the layers holds; ``balanced``: its share of players.

    Runs whose Σφ is too small to be shared out are left out: below 0.005 of a score or 0.01 nats,
    or below half of Σ|φ|, where contributions cancel and shares of what is left mean nothing.
    """
    rows = with_third(contributions(subnetworks, measure))
    sums = rows.assign(size=rows["value"].abs()).groupby(RUN)[["value", "size"]].sum()
    least = (0.5 * sums["size"]).clip(lower=_SMALLEST_SUM[measure])
    kept = sums[sums["value"].abs() >= least].reset_index()[RUN]
    return _share_of_top(rows.merge(kept, on=RUN))


def imbalance(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Deviation from balance: how far :func:`top_share` is from an even share; 0 is balanced."""
    return _deviation(top_share(subnetworks, measure))


def bound_slack(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Expected loss over masks minus its bound by Theorem 3.1, per chance ``x`` of keeping a layer.

    ``measure`` is the bound: ``mean-outputs`` (guaranteed) or ``mean-weights`` (not).
    """
    place = [*RUN, "x"]
    bound = at(subnetworks, analysis="theorem", measure=measure)[[*place, "value"]]
    rows = at(subnetworks, analysis="theorem", measure="expected")
    rows = rows.merge(bound, on=place, suffixes=("", "_bound"))
    slack = rows["value"] - rows["value_bound"]
    return rows.assign(value=slack, measure=measure).drop(columns="value_bound")


def gradient_shares(
    gradients: pd.DataFrame, select: pd.DataFrame, since: float = 0.0, until: float = 1.0
) -> pd.DataFrame:
    """Share of the gradient norm that each layer gets, at the chosen learning rates.

    Norms are summed over the steps after ``since`` and up to ``until``, as shares of the training.
    """
    runs = final_runs(gradients, select)
    runs = runs[(runs["share"] > since) & (runs["share"] <= until)]
    summed = runs.assign(value=runs["norm"] * runs["steps"])
    rows = summed.groupby([*RUN, "stack", "layer"])["value"].sum().reset_index()
    whole = rows.groupby(RUN)["value"].transform("sum")
    return rows.assign(value=rows["value"] / whole)[whole > 0]


def gradient_imbalance(
    gradients: pd.DataFrame, select: pd.DataFrame, since: float = 0.0, until: float = 1.0
) -> pd.DataFrame:
    """How far the highest third's share of the gradient norm is from its share of the layers."""
    rows = gradient_shares(gradients, select, since, until)
    return _deviation(_share_of_top(with_third(rows)))


def _share_of_top(rows: pd.DataFrame) -> pd.DataFrame:
    """What the highest third holds of a run's sum of values, and its share of the rows."""
    top = (rows["third"] == THIRDS[-1]).astype(float)
    parts = rows[RUN].assign(value=rows["value"] * top, whole=rows["value"], balanced=top)
    found = parts.groupby(RUN).agg({"value": "sum", "whole": "sum", "balanced": "mean"})
    return found.assign(value=found["value"] / found["whole"]).drop(columns="whole").reset_index()


def _deviation(shares: pd.DataFrame) -> pd.DataFrame:
    return shares.assign(value=(shares["value"] - shares["balanced"]).abs())


def _early(frames: Frames) -> pd.DataFrame:
    """CoTo stopped early in the place of CoTo."""
    rows = imbalance(frames["subnetworks"], "loss")
    rows = rows[rows["strategy"].isin([BASELINE, "coto-early"])]
    return rows.replace({"strategy": {"coto-early": STRATEGY}})


_NO_SUBSETS = "no suite of this run scores sub-networks"
_STABLE: dict[str, Any] = {
    "statement": "CoTo promotes layer-wise dropout stability.",
    "table": "dropout_stability",
    "records": ("subnetworks",),
    "family": "stability",
    "sensitivity": WORTH,
    "optional": _NO_SUBSETS,
}
_EVEN: dict[str, Any] = {
    "statement": "CoTo leads to a balanced contribution of the layers (cooperative game, Shapley "
    "values).",
    "family": "balance",
    "sensitivity": WORTH,
    "direction": -1,
    # In percentage points of the whole; under a fifth of what the paper's two numbers differ by.
    "fixed_margin": 5.0,
}
_SHAPLEY = _EVEN | {"table": "shapley", "records": ("subnetworks",), "optional": _NO_SUBSETS}
_SECOND: dict[str, Any] = {"role": "secondary", "apart": False}
_ROWS = "kind == 'measured' and quantity == 'deviation from balance, {}'"
# Of the paper: the share of the highest third, and by strategy how far it is from an even one.
TOP_SHARE = Reported(
    *("share of the highest 4 of 12 layers, plain LoRA, %", "shapley"),
    *("share of highest 4 of 12 layers", "percent", "LoRA"),
)
OFF_BALANCE = {
    strategy: Reported(
        *(f"deviation from balance, {method}, points", "shapley", "deviation from balance"),
        *("percentage points (+/-)", method),
    )
    for strategy, method in ((STRATEGY, "LoRA-CoTo"), ("coto-early", "early-stopped CoTo"))
}

for _one in (
    Claim(
        name="dropout-stability",
        test="Expected score with each layer's adapters kept with chance q, mean over q from 0 to "
        "1, CoTo minus vanilla.",
        rows="quantity == 'mean over q'",
        quantity=lambda f: stability_area(f["subnetworks"]),
        **_STABLE,
    ),
    Claim(
        name="dropout-stability-loss",
        test="What dropping layers costs: the score of all layers minus that of the claim "
        "dropout-stability, CoTo minus vanilla; smaller is better.",
        rows="quantity == 'cost: score of all layers − mean over q'",
        quantity=lambda f: stability_loss(f["subnetworks"]),
        direction=-1,
        caution="An arm whose layers do little has little to lose.",
        **_STABLE | _SECOND,
    ),
    Claim(
        name="balanced-contribution",
        test="How far the highest third of the layers' share of the Shapley values (in loss) is "
        "from its share of the layers, CoTo minus vanilla; smaller is better.",
        rows=_ROWS.format("loss"),
        quantity=lambda f: imbalance(f["subnetworks"], "loss"),
        reported={"lora": (TOP_SHARE, OFF_BALANCE[STRATEGY])},
        caution="Runs whose contributions add up to nearly nothing are left out.",
        **_SHAPLEY,
    ),
    Claim(
        name="balanced-contribution-score",
        test="As balanced-contribution, in score.",
        rows=_ROWS.format("score"),
        quantity=lambda f: imbalance(f["subnetworks"], "score"),
        **_SHAPLEY | _SECOND,
    ),
    Claim(
        name="balanced-contribution-early",
        test="As balanced-contribution, CoTo stopped early minus vanilla.",
        rows=_ROWS.format("loss") + " and strategy in ('vanilla', 'coto-early')",
        quantity=_early,
        reported={POOLED: (OFF_BALANCE["coto-early"],)},
        **_SHAPLEY | _SECOND | {"optional": f"{_NO_SUBSETS} of early-stopped CoTo"},
    ),
    Claim(
        name="balanced-gradients",
        test="As balanced-contribution, of the gradient norm, summed over the training, instead of "
        "Shapley values.",
        rows="quantity == 'deviation from balance' and period == 'whole'",
        quantity=lambda f: gradient_imbalance(f["gradients"], f["select"]),
        table="gradients",
        records=("gradients",),
        optional="no run recorded its gradients",
        **_EVEN | _SECOND,
    ),
):
    CLAIMS.add(_one)
