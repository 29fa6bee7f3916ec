"""Quantities of what is measured beside plain scores: sub-networks, gradients, weights, entries.

As in :mod:`coto.report.quantities`, every function returns rows with ``suite, task, adapter,
strategy, seed, value``, plus what the quantity is split by. Scores are fractions, losses nats.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from coto.report.quantities import (
    ARM,
    BASELINE,
    ORDER,
    TRAINED,
    final_runs,
    headline,
    labelled,
    midpoints,
    over_repeats,
)

RUN = [*ARM, "seed"]
THIRDS = ORDER["third"]
# A sum of contributions below it, in units of the measure, is too small to be shared out; so is one
# that is but what is left of contributions that cancel.
_SMALLEST_SUM = {"score": 0.005, "loss": 0.01}
_LEAST_LEFT = 0.5
# What the weights of a run are compared with; the first two are other runs.
RELATIONS = ORDER["relation"]


def unstructured(prune: pd.DataFrame) -> pd.DataFrame:
    """Headline scores after setting entries to zero, per ``method`` and ``sparsity``.

    Random draws are averaged, as :func:`coto.report.quantities.over_repeats` does it.
    """
    rows = headline(prune)
    return over_repeats(rows[rows["method"] != "structured"])


def sparsity_area(prune: pd.DataFrame) -> pd.DataFrame:
    """Mean score over the sparsities that were measured, per ``method``."""
    return _mean_height(unstructured(prune), "sparsity", [*RUN, "method", "metric", "n"])


def seed_merges(interpolate: pd.DataFrame) -> pd.DataFrame:
    """Scores of two seeds merged 1:1, per ``operator``; ``seed`` is the pair."""
    return midpoints(interpolate)


def stability_curve(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Expected score or loss when each layer's adapter is kept with chance ``x``."""
    return _of(subnetworks, "stability", measure)


def stability_area(subnetworks: pd.DataFrame, measure: str = "score") -> pd.DataFrame:
    """Mean over the chances of :func:`stability_curve`."""
    return _mean_height(stability_curve(subnetworks, measure), "x", RUN)


def stability_loss(subnetworks: pd.DataFrame) -> pd.DataFrame:
    """What dropping layers costs: the score of all layers minus :func:`stability_area`."""
    curve = stability_curve(subnetworks, "score")
    whole = curve.loc[curve["x"] == 1, [*RUN, "value"]].rename(columns={"value": "whole"})
    rows = stability_area(subnetworks).merge(whole, on=RUN)
    return rows.assign(value=rows["whole"] - rows["value"]).drop(columns="whole")


def contributions(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Shapley value φ of every ``player``; of ``loss``, positive where the player lowers it."""
    rows = _of(subnetworks, "shapley", measure)
    return rows[rows["player"] != "total"]


def with_third(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``third``: where in its stack a row's layer lies, counting the layers that occur.

    The highest third is that of :func:`coto.analysis.shapley.top_third_share`.
    """
    third: dict[tuple[Any, ...], str] = {}
    places = rows[["suite", "adapter", "stack", "layer"]].drop_duplicates()
    for (suite, adapter, stack), group in places.groupby(["suite", "adapter", "stack"]):
        layers, count = sorted(group["layer"]), len(group)
        for i, layer in enumerate(layers):
            position = (i >= round(count / 3)) + (i >= round(2 * count / 3))
            third[suite, adapter, stack, layer] = THIRDS[position]
    columns = (rows[name] for name in ("suite", "adapter", "stack", "layer"))
    return rows.assign(third=[third[place] for place in zip(*columns, strict=True)])


def alignment(measured: pd.DataFrame) -> pd.DataFrame:
    """What LoRA-align measured of merges of two seeds and of all tasks (``stage``).

    Means over the modules of a ``third`` of a ``stack``, per ``measure``: ``gap_before`` and
    ``gap_after``, ‖ΔW_f − ΔW_m‖; ``reduction``, the share of the gap that is gone; ``p_norm`` and
    ``p_distance``, ‖P‖ and ‖P − I‖.
    """
    rows = measured[(measured["operator"] == "lora-align") & (measured["module"] != "")]
    rows = with_third(labelled(rows))
    rows = rows[(rows["stage"] == "merge") | (rows["seed"].map(len) == 2)]
    place = ["stage", *RUN, "stack", "third"]
    means = rows.pivot_table("value", place, "measure", "mean").reset_index()
    if means.empty:
        return pd.DataFrame(columns=[*place, "measure", "value"])
    means["reduction"] = 1 - means["gap_after"] / means["gap_before"]
    return means.melt(place, var_name="measure").dropna(subset="value")


def top_share(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Share of Σφ that the highest third of the layers holds; ``balanced``: its share of players.

    Runs whose Σφ is too small to be shared out are left out: below 0.005 of a score or 0.01 nats,
    or below half of Σ|φ|, where contributions cancel and shares of what is left mean nothing.
    """
    rows = with_third(contributions(subnetworks, measure))
    sums = rows.assign(size=rows["value"].abs()).groupby(RUN)[["value", "size"]].sum()
    least = (_LEAST_LEFT * sums["size"]).clip(lower=_SMALLEST_SUM[measure])
    kept = sums[sums["value"].abs() >= least].reset_index()[RUN]
    return _share_of_top(rows.merge(kept, on=RUN))


def imbalance(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Deviation from balance: how far :func:`top_share` is from an even share; 0 is balanced."""
    return _deviation(top_share(subnetworks, measure))


def bound_slack(subnetworks: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Expected loss over masks minus its bound by Theorem 3.1, per chance ``x`` of keeping a layer.

    Args:
        subnetworks: rows of the stage.
        measure: the bound: ``mean-outputs`` (guaranteed) or ``mean-weights`` (not).
    """
    place = [*RUN, "x"]
    bound = _of(subnetworks, "theorem", measure)[[*place, "value"]]
    rows = _of(subnetworks, "theorem", "expected").merge(
        bound.rename(columns={"value": "bound"}), on=place
    )
    return rows.assign(value=rows["value"] - rows["bound"], measure=measure).drop(columns="bound")


def gradient_shares(
    gradients: pd.DataFrame, select: pd.DataFrame, since: float = 0.0, until: float = 1.0
) -> pd.DataFrame:
    """Share of the gradient norm, summed over the steps, that each layer gets.

    Args:
        gradients: rows of the stage; the runs of the chosen learning rates are used.
        select: which they are.
        since: share of the training after which steps count.
        until: the share up to which they do.
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


def weight_relations(geometry: pd.DataFrame, select: pd.DataFrame) -> pd.DataFrame:
    """Cosine and distance of ΔW by ``relation``, between runs of the arms' chosen learning rates.

    Returns:
        ``cosine`` and ``euclidean`` (means over modules) instead of ``value``. ``seed`` is a pair
        of seeds in the relation of two seeds; two strategies are the named one and the baseline.
    """
    rows = final_runs(geometry, select)
    chosen = rows[[*TRAINED, "lr"]].drop_duplicates()
    other = {"strategy": "other_strategy", "lr": "other_lr"}
    runs = rows.merge(chosen.rename(columns=other), how="inner")
    same_arm = runs["strategy"] == runs["other_strategy"]
    seeds = runs[same_arm & (runs["seed"] != runs["other_seed"])]
    pairs = [tuple(sorted(pair)) for pair in zip(seeds["seed"], seeds["other_seed"], strict=True)]
    seeds = seeds.assign(seed=pd.Series(pairs, index=seeds.index, dtype=object))
    arms = runs[~same_arm & (runs["seed"] == runs["other_seed"])]
    named = arms["strategy"].where(arms["strategy"] != BASELINE, arms["other_strategy"])
    with_baseline = (arms["strategy"] == BASELINE) | (arms["other_strategy"] == BASELINE)
    found = [
        seeds.assign(relation=RELATIONS[0]),
        arms.assign(relation=RELATIONS[1], strategy=named)[with_baseline],
        *(
            rows[rows["other_strategy"] == name.removeprefix("vs ")].assign(relation=name)
            for name in RELATIONS[2:]
        ),
    ]
    return pd.concat(found)[[*RUN, "relation", "cosine", "euclidean"]].reset_index(drop=True)


def _of(subnetworks: pd.DataFrame, analysis: str, measure: str) -> pd.DataFrame:
    which = (subnetworks["analysis"] == analysis) & (subnetworks["measure"] == measure)
    return subnetworks[which]


def _share_of_top(rows: pd.DataFrame) -> pd.DataFrame:
    """What the highest third holds of a run's sum of values, and its share of the rows."""
    top = (rows["third"] == THIRDS[-1]).astype(float)
    parts = rows[RUN].assign(value=rows["value"] * top, whole=rows["value"], balanced=top)
    found = parts.groupby(RUN).agg({"value": "sum", "whole": "sum", "balanced": "mean"})
    return found.assign(value=found["value"] / found["whole"]).drop(columns="whole").reset_index()


def _deviation(shares: pd.DataFrame) -> pd.DataFrame:
    return shares.assign(value=(shares["value"] - shares["balanced"]).abs())


def _mean_height(rows: pd.DataFrame, x: str, by: Sequence[str]) -> pd.DataFrame:
    """Area under each curve by the trapezoid rule, divided by its width; curves of no width go."""
    found = []
    for key, curve in rows.sort_values(x).groupby(list(by)):
        at = curve[x].to_numpy(float)
        if at[-1] > at[0]:
            area = np.trapezoid(curve["value"].to_numpy(float), at)
            found.append((*key, float(area / (at[-1] - at[0]))))
    return pd.DataFrame(found, columns=[*by, "value"])
