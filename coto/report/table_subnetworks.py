"""Tables of sub-networks: contributions of layers, dropped layers, the bound of Theorem 3.1."""

import numpy as np
import pandas as pd

from coto.report.context_analysis import with_shapley
from coto.report.display import RUNS
from coto.report.points import points
from coto.report.quantities_analysis import (
    RUN,
    bound_slack,
    contributions,
    imbalance,
    stability_area,
    stability_curve,
    stability_loss,
    top_share,
)
from coto.report.settings import Settings, Style
from coto.report.table_base import Frames, Quantity, compared, empty, laid_out, table
from coto.report.writing import Table

_UNITS = {"score": "fraction", "loss": "nats"}
_BOUNDS = {"mean-outputs": "averaged outputs", "mean-weights": "averaged weights"}
# Chances at which the expected score is shown, where they were measured.
_SHOWN_CHANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
# A bound that is off by less, in nats, is not broken but rounded.
_ROUNDING = 1e-6
_EARLY = "coto-early is CoTo as it was when its training might have been stopped."


@table("shapley")
def shapley(frames: Frames, settings: Settings, style: Style) -> Table:
    """What the layers' adapters contribute, and whether it adds up; every player in the CSV."""
    title = "Shapley values: what the layers' adapters contribute"
    rows = frames["subnetworks"]
    if not (rows["analysis"] == "shapley").any():
        return empty(title, "Shapley values were not measured.")
    share, deviation = "share of the highest third, {}", "deviation from balance, {}"
    parts = [
        Quantity(name.format(measure), quantity(rows, measure))
        for name, quantity in ((share, top_share), (deviation, imbalance))
        for measure in _UNITS
    ]
    parts += [part for measure, unit in _UNITS.items() for part in _sums(rows, measure, unit)]
    lines = compared(parts, settings)
    who = ["measure", "player", "stack", "layer", "projection"]
    players = pd.concat([contributions(rows, measure) for measure in _UNITS])
    return laid_out(
        title,
        with_shapley(lines, share.format("score"), deviation.format("score")),
        points(players, settings, who).assign(quantity="φ"),
        {},
        settings,
        style,
        "v is the score, or minus the loss: φ is positive where a player helps. Thirds count the "
        "layers of each stack. Runs whose Σφ is below 0.5 points or 0.01 nats, or below half of "
        "Σ|φ| because contributions cancel, have no share.",
        "Σφ must be v(all) − v(none), which sampling does not use; the residual is their distance "
        "in standard errors of Σφ, of sampled runs.",
        *_effort(rows[rows["analysis"] == "shapley"]),
        "The CSV has φ of every player, with its standard error. " + _EARLY,
    )


def _sums(rows: pd.DataFrame, measure: str, unit: str) -> list[Quantity]:
    """Σφ, v(all) − v(none), and their distance in standard errors where φ was sampled."""
    here = rows[(rows["analysis"] == "shapley") & (rows["measure"] == measure)]
    sums = contributions(rows, measure).groupby(RUN)["value"].sum().reset_index()
    total = here.loc[here["player"] == "total", [*RUN, "value", "error"]]
    both = sums.merge(total.rename(columns={"value": "total"}), on=RUN)
    sampled = both[both["error"] > 0]
    distance = (sampled["value"] - sampled["total"]).abs() / sampled["error"]
    name = f", {measure}" + (" (nats)" if measure == "loss" else "")
    return [
        Quantity(f"{what}{name}", values, of, differences=False)
        for what, name, values, of in (
            ("Σφ", name, sums, unit),
            ("v(all) − v(none)", name, total, unit),
            (
                f"residual, {measure}",
                " (standard errors)",
                sampled.assign(value=distance),
                "errors",
            ),
        )
    ]


def _effort(rows: pd.DataFrame) -> list[str]:
    """How many subsets each suite's values took, and whether these were all."""
    said = []
    for (suite, adapter), part in rows.groupby(["suite", "adapter"]):
        players = part.loc[part["player"] != "total", "player"].nunique()
        how = "a sample" if (part["error"] > 0).any() else "all subsets"
        most = part["evaluations"].max()
        said.append(
            f"{suite}, {adapter}: {players} players, {most} subsets evaluated, φ from {how}"
        )
    return [f"{'; '.join(said)}."]


@table("dropout_stability")
def dropout_stability(frames: Frames, settings: Settings, style: Style) -> Table:
    """Expected score when each layer's adapter is kept by chance; the loss in the CSV."""
    title = "Layer-wise dropout stability: expected score with each layer kept by chance q"
    rows = frames["subnetworks"]
    curve = stability_curve(rows, "score")
    if curve.empty:
        return empty(title, "Dropout stability was not measured.")
    grid = np.unique(curve["x"].to_numpy(float))
    nearest = {float(grid[np.abs(grid - q).argmin()]) for q in _SHOWN_CHANCES}
    parts = [Quantity(f"score at q = {q:g}", curve[curve["x"] == q]) for q in sorted(nearest)]
    parts.append(Quantity("mean over q", stability_area(rows)))
    parts.append(Quantity("cost: score of all layers − mean over q", stability_loss(rows)))
    curves = [
        points(stability_curve(rows, measure), settings, ["x"]).assign(
            quantity=f"expected {measure}", unit=unit
        )
        for measure, unit in _UNITS.items()
    ]
    return laid_out(
        title,
        compared(parts, settings),
        pd.concat(curves),
        {},
        settings,
        style,
        "Every layer's adapter is kept with chance q, on its own; the expectation is over the "
        "subsets that stay. The mean over q is the area under the curve. The CSV has every q (x) "
        "and the expected loss in nats.",
        _EARLY,
    )


@table("theorem")
def theorem(frames: Frames, settings: Settings, style: Style) -> Table:
    """Expected loss over masks minus its bound by Theorem 3.1, and where that is negative."""
    title = "Theorem 3.1: expected loss over masks minus its lower bound"
    rows = pd.concat(
        [
            bound_slack(frames["subnetworks"], measure).assign(bound=name)
            for measure, name in _BOUNDS.items()
        ],
        ignore_index=True,
    )
    inner = rows[(rows["x"] > 0) & (rows["x"] < 1)]
    if inner.empty:
        return empty(title, "The bound was not measured at any chance between 0 and 1.")
    mean = inner.groupby([*RUN, "bound"])["value"].mean().reset_index()
    slack = Quantity("mean slack over p (nats)", mean, "nats", differences=False)
    averages = compared([slack], settings, ["bound"])
    return laid_out(
        title,
        pd.concat([averages, _extremes(inner)], ignore_index=True),
        points(rows, settings, ["bound", "x"]).assign(quantity="slack", unit="nats"),
        {"bound": "bound by"},
        settings,
        style,
        "Slack: expected loss minus bound, in nats; negative where the bound is broken. p = 0 and "
        "p = 1, where both are the same model, are left out here; the CSV has every p (x).",
        "The theorem is Jensen's inequality: it needs a loss that is convex in what is averaged. "
        "Cross-entropy is convex in the averaged outputs, so that bound is guaranteed. The "
        "averaged weights, W₀ + (j/n)ΔW, are our reading of the paper's theorem; a transformer's "
        "loss is not convex in its weights, so that bound may be broken.",
        _EARLY,
    )


def _extremes(rows: pd.DataFrame) -> pd.DataFrame:
    """The smallest slack over tasks, seeds and p, at which p, and in how many runs none is < 0."""
    lines = []
    for key, arm in rows.groupby(["suite", "adapter", "bound", "strategy"]):
        place = dict(zip(("suite", "adapter", "bound", "strategy"), key, strict=True))
        place |= {"task": "all", "metric": "", "kind": "measured", "source": "this run"}
        worst = arm.groupby(RUN)["value"].min()
        place |= {"n_values": len(worst), "n_seeds": arm["seed"].nunique(), "flagged": 0}
        smallest = arm.sort_values("value", kind="stable").iloc[0]
        for quantity, mean, unit in (
            ("smallest slack (nats)", smallest["value"], "nats"),
            ("p of the smallest slack", smallest["x"], "probability"),
            ("runs in which it holds for every p", (worst >= -_ROUNDING).mean(), RUNS),
        ):
            lines.append(place | {"quantity": quantity, "mean": float(mean), "unit": unit})
    return pd.DataFrame(lines)
