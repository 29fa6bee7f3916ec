"""Adapters pruned without retraining: whole ones removed, or single entries set to zero."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coto.config.models import Tables
from coto.findings.merging.scores import about_draws
from coto.report import panels, quantities, tables
from coto.report.claim import CLAIMS, POOLED, Claim
from coto.report.comparison import AVERAGE, compare, overall, points
from coto.report.drawing import LIGHT, Strategies, figure, legend_above, message, new_figure
from coto.report.panels import at, named
from coto.report.paper import PaperValue, Reported, paper_value, paper_values, vision
from coto.report.quantities import BASELINE, RUN, STRATEGY, headline, ranked
from coto.report.records import Frames
from coto.report.sensitivity import WORTH
from coto.report.settings import Settings
from coto.report.tables import PAPER_ARMS, Quantity, table
from coto.report.writing import Table

_KEPT = {keep: f"{keep}\nlayers" for keep in ("odd", "even", "low", "middle", "high")}
_CLIP = "paper: CLIP ViT-B/16, 11 image sets, LoRA → +CoTo"
# The first of the methods; the paper does not say which one is its own.
METHOD = "magnitude-factors-global"
# What the parts of a method's name mean, in the order of the columns.
_WORDS = {
    **{"magnitude": "smallest", "random": "random", "factors": "A and B", "delta": "ΔW"},
    **{"global": "over all layers", "layer": "per layer"},
}
_AREA, _HALF = "mean over sparsities", "score at 50 % sparsity"


def structured(prune: pd.DataFrame) -> pd.DataFrame:
    """Headline scores after removing whole adapters."""
    return at(headline(prune), method="structured")


def pruned_mean(prune: pd.DataFrame) -> pd.DataFrame:
    """Mean over the structured prunings; both parities of every other layer count as one.

    The paper's bars are everyother, low, middle, high, query, key and value; which parity its
    everyother keeps is not known.
    """
    rows = structured(prune)
    rows = rows[rows["keep"] != "all"]
    rows = rows.replace({"keep": dict.fromkeys(("odd", "even"), "everyother")})
    per_kind = rows.groupby([*RUN, "keep"])["value"].mean()
    return per_kind.groupby(RUN).mean().reset_index()


def every_other(prune: pd.DataFrame) -> pd.DataFrame:
    """Mean over the two parities of keeping every other layer."""
    rows = structured(prune)
    return rows[rows["keep"].isin(["odd", "even"])].groupby(RUN)["value"].mean().reset_index()


def unstructured(prune: pd.DataFrame) -> pd.DataFrame:
    """Headline scores by ``method`` of setting entries to zero and ``sparsity``, mean of draws."""
    rows = headline(prune)
    return quantities.over_repeats(rows[rows["method"] != "structured"])


def half_sparse(prune: pd.DataFrame) -> pd.DataFrame:
    """Scores with half of the entries gone, per ``method``."""
    rows = unstructured(prune)
    return rows[(rows["sparsity"] - 0.5).abs() < 1e-9]


def sparsity_area(prune: pd.DataFrame) -> pd.DataFrame:
    """Mean score over the sparsities that were measured, per ``method``."""
    by = [*RUN, "method", "metric", "n"]
    return quantities.mean_height(unstructured(prune), "sparsity", by)


def _paper(keep: str) -> dict[str, PaperValue]:
    """The paper's CLIP averages by strategy, beside both parities the same; empty without any."""
    task = f"{AVERAGE}:" + ("everyother" if keep in ("odd", "even") else keep)
    values = paper_values("clip11_pruning")
    keys = {strategy: (task, method, "accuracy(%)") for strategy, method in PAPER_ARMS.items()}
    return {strategy: values[key] for strategy, key in keys.items() if key in values}


def _paper_gap() -> PaperValue:
    """How far CoTo is ahead in the paper when half of the entries are gone, in points."""
    return paper_value(_HALF_SPARSE.experiment, "gap", _HALF_SPARSE.coto, _HALF_SPARSE.metric)


@table("pruning", needs=("prune",))
def pruning(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Scores after removing whole adapters without retraining.

    Kept is every other layer, a third of the layers, or one projection. Means are in percent, with
    the number of seeds and intervals in brackets; full precision and single tasks are in the CSV.
    The paper's column is its CLIP experiment, digitised from a figure, as context.
    """
    title = "Structured pruning without retraining, average over tasks"
    rows = structured(frames["prune"])
    if rows.empty:
        return tables.empty(title, "Pruning was not measured.")
    place = ["suite", "adapter", "keep"]
    kept = rows.groupby(place)[["adapters_kept", "adapters_total"]].first()
    tidy = compare(rows, settings, ["keep"]).join(kept, on=place)
    shown = overall(tidy)
    share = shown["adapters_kept"].astype(str) + "/" + shown["adapters_total"].astype(str)
    index = {"adapter": "adapter", "keep": "kept", "share": "adapters"}
    display = tables.side_by_side(shown.assign(share=share), index, style.decimals)
    display = display.drop(columns="source")
    papers = {keep: _paper(keep) for keep in tidy["keep"].unique()}
    text = {keep: " → ".join(f"{v.value:.1f}" for v in papers[keep].values()) for keep in papers}
    display[_CLIP] = display["kept"].map(text).where(display["adapter"] == "lora", "")
    beside = (tidy["adapter"] == "lora") & (tidy["task"] == AVERAGE)
    for arm in PAPER_ARMS:
        means = {keep: values[arm].value / 100 for keep, values in papers.items() if values}
        tidy[f"paper_clip11_{arm}"] = tidy["keep"].map(means).where(beside)
    quality = sorted({value.quality for values in papers.values() for value in values.values()})
    remarks = (
        "odd and even keep every other layer; low, middle and high a third of the layers; query, "
        "key and value one projection. The CSV has every task.",
        f"The paper's column is another suite ({', '.join(quality)}; rebuttal figure r7 in the "
        "authors' repository; both arms the authors' own runs) and its everyother stands beside "
        "both parities.",
    )
    return Table(title, tidy, display, tables.notes(settings, shown, *remarks))


@figure("pruning", needs=("prune", "train", "select", "none", "baseline"), rebuttal="r7")
def draw_pruning(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score after removing adapters without retraining, from vanilla to CoTo, averaged over tasks.

    The label says what is kept. Horizontal lines are the scores with all adapters and with none, of
    each strategy, and of a probe on the bare backbone where there is one. Vertical lines are
    intervals over seeds, of three or more. Lighter marks are the paper's averages over eleven image
    sets with CLIP, measured on its Figure r7; its *everyother* stands beside both parities, as
    which one it keeps is not known.
    """
    rows = structured(frames["prune"])
    pruned = rows[~rows["keep"].isin(panels.LEVELS)]
    if pruned.empty:
        return message("Pruning was not measured.")
    tidy = panels.averages(pruned, settings, ["keep"])
    ends = (at(rows, keep=keep) for keep in ("all", "none"))
    framed = overall(panels.levels(frames, settings, *ends), ["level"])
    found = panels.places(tidy)
    arms, keeps = (ranked(column, list(tidy[column])) for column in ("strategy", "keep"))
    shown = new_figure(7.5, 2.0 * (len(found) + 1) + 1.1)
    grid = shown.subplots(len(found) + 1, 1, sharex=True, squeeze=False)[:, 0]
    grid[0].set_xlim(-0.6, len(keeps) - 0.4)
    for axes, (suite, adapter) in zip(grid, found, strict=False):
        dots, lines = (at(part, suite=suite, adapter=adapter) for part in (tidy, framed))
        panels.paired_dots(axes, dots, "keep", keeps, arms)
        panels.level_lines(axes, lines, arms)
        panels.show_scores(axes, dots, lines[["mean"]])
        several = at(rows, suite=suite)["task"].nunique() > 1
        average = ", average over tasks" if several else ""
        axes.set_title(f"{named((suite, adapter), found)}{average}", loc="left")
    numbers = [({"strategy": arm, "keep": k}, v) for k in keeps for arm, v in _paper(k).items()]
    paper, quality = panels.paper_lines(numbers, unit=100)
    if len(paper):
        panels.paired_dots(grid[-1], paper, "keep", keeps, arms, label="{}, paper", light=True)
        panels.show_scores(grid[-1], paper)
    about = f"average over 11 image sets ({quality}, ± standard deviation)"
    grid[-1].set_title(f"paper: LoRA on CLIP ViT-B/16, {about}", loc="left")
    for axes in grid:
        axes.set_ylabel("score (%)")
    labels = [_KEPT.get(keep, f"{keep}\nonly") for keep in keeps]
    grid[-1].set_xticks(np.arange(len(keeps)), labels)
    panels.hide_empty(grid[:, None])
    legend_above(shown, *grid)
    return shown


@table("unstructured_pruning", needs=("prune",))
def unstructured_pruning(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Scores after setting single entries of A and B, or of ΔW, to zero without retraining.

    The mean score over all sparsities, and the score with half of the entries gone. Averages over
    tasks in percent, with intervals in brackets. Whole curves and single tasks are in the CSV.
    """
    title = "Unstructured pruning without retraining, average over tasks"
    prune = frames["prune"]
    rows = unstructured(prune)
    if rows.empty:
        return tables.empty(title, "Unstructured pruning was not measured.")
    parts = [Quantity(_AREA, sparsity_area(prune)), Quantity(_HALF, half_sparse(prune))]
    lines = tables.compared(parts, settings, ["method"])
    gap = _paper_gap()
    paper = {"strategy": STRATEGY, "quantity": _HALF, "method": "not stated", "mean": float("nan")}
    paper["difference"] = gap.value / 100
    scores = points(rows, settings, ["method", "sparsity"]).assign(quantity="score")
    grid = ", ".join(f"{100 * sparsity:.3g}" for sparsity in sorted(set(rows["sparsity"])))
    remarks = [
        "A method's name says what goes first (the smallest magnitudes, or any), of what (entries "
        "of A and B, or of ΔW), and where entries are ranked (all layers together, or each).",
        f"Mean over sparsities: area under the curve over {grid} %, by the trapezoid rule, divided "
        "by its width. The CSV has every task and every sparsity.",
        *about_draws(lines),
    ]
    lines = tables.beside_lora(lines, "paper, 50 % sparsity", [(gap, paper)])
    headings = {"method": "method"}
    return tables.laid_out(title, lines, scores, headings, settings, style, *remarks)


@figure("unstructured_pruning", needs=("prune",))
def draw_unstructured_pruning(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score after setting entries to zero without retraining, averaged over tasks.

    Bands are intervals over seeds and may reach beyond the picture. Random choices are averaged
    over their draws. The grey bar is the paper's gap between the arms at 50 %, on top of our
    baseline; which method it used is not known.
    """
    rows = unstructured(frames["prune"])
    if rows.empty:
        return message("Unstructured pruning was not measured.")
    rows = rows.assign(sparsity=100 * rows["sparsity"])
    tidy = panels.averages(rows, settings, ["method", "sparsity"])
    found = panels.places(tidy)
    arms = ranked("strategy", list(tidy["strategy"]))
    parts = list(_WORDS)
    methods = sorted(set(tidy["method"]), key=lambda m: [*map(parts.index, m.split("-"))])
    shown = new_figure(max(6.6, 2.3 * len(methods) + 0.6), 2.2 * len(found) + 0.9)
    grid = shown.subplots(len(found), len(methods), sharex=True, sharey="row", squeeze=False)
    for line, (suite, adapter) in zip(grid, found, strict=True):
        lines = at(tidy, suite=suite, adapter=adapter)
        heights = lines["mean"]
        for axes, method in zip(line, methods, strict=True):
            panels.curves(axes, at(lines, method=method), "sparsity", arms)
            if adapter == "lora" and method == METHOD:
                heights = pd.concat([heights, _draw_gap(axes, at(lines, method=method))])
        panels.show_means(line[0], heights)
        line[0].set_ylabel(f"{named((suite, adapter), found)}\nscore (%)")
    for axes, method in zip(grid[0], methods, strict=True):
        which, what, where = (_WORDS[part] for part in method.split("-"))
        axes.set_title(f"{which} entries of {what},\n{where}")
    for axes in grid[-1]:
        axes.set(xlabel="entries set to zero (%)", xlim=(-3, 103), xticks=(0, 25, 50, 75, 100))
    panels.hide_empty(grid)
    legend_above(shown, *grid[:, 0])
    return shown


def _draw_gap(axes: Axes, lines: pd.DataFrame) -> pd.Series:
    """The paper's gap between the arms at 50 %, on top of our baseline; returns its upper end."""
    gap = _paper_gap()
    style: dict[str, Any] = {"color": "#555555", "linewidth": 5, "solid_capstyle": "butt"}
    style["label"] = f"paper: CoTo +{gap.value:g} points at 50 % ({gap.quality})"
    below = at(lines, strategy=BASELINE, sparsity=50.0)["mean"]
    for low in 100 * below:
        axes.plot([50, 50], [low, low + gap.value], alpha=LIGHT, **style)
    return below + gap.value / 100


_EVERY_OTHER = Reported(
    *("11 image sets, every other layer", "clip11_pruning", "Average:everyother"),
    *("accuracy(%)", "LoRA-CoTo", "LoRA", "image"),
)
_HALF_SPARSE = Reported(
    *("gap at 50 % sparsity, points", "pruning_unstructured_50pct", "gap"),
    *("percentage points", "LoRA-CoTo minus LoRA"),
    is_effect=True,
)
_PRUNING: dict[str, Any] = {
    "records": ("prune",),
    "family": "pruning",
    "sensitivity": WORTH,
}
_ROBUST = _PRUNING | {
    "statement": "CoTo improves pruning robustness.",
    "table": "pruning",
    "reported": {"lora": (*vision("pruning everyother acc(%)"), _EVERY_OTHER)},
    "needs": "pruned scores of both arms",
}
_SPARSE = _PRUNING | {
    "statement": "CoTo improves robustness to unstructured pruning at growing sparsity.",
    "table": "unstructured_pruning",
}
_OTHERS = f"method != '{METHOD}'"
_SECOND: dict[str, Any] = {"role": "secondary", "apart": False}

for _one in (
    Claim(
        name="pruning",
        test="Mean score over the structured prunings (both parities of every other layer count "
        "as one), CoTo minus vanilla.",
        rows="keep != 'all'",
        quantity=lambda f: pruned_mean(f["prune"]),
        **_ROBUST,
    ),
    Claim(
        name="pruning-everyother",
        test="Score with every other layer's adapters removed, mean of both parities, "
        "CoTo minus vanilla.",
        rows="keep in ('odd', 'even')",
        quantity=lambda f: every_other(f["prune"]),
        role="secondary",
        **_ROBUST,
    ),
    Claim(
        name="unstructured-pruning",
        test="Mean score over the sparsities (area under the curve, divided by its width) with the "
        "smallest entries of all factors A and B set to zero, CoTo minus vanilla.",
        rows=f"method == '{METHOD}' and quantity == '{_AREA}'",
        quantity=lambda f: at(sparsity_area(f["prune"]), method=METHOD),
        reported={"lora": (_HALF_SPARSE,)},
        optional="no suite of this run prunes single entries by their magnitude",
        **_SPARSE,
    ),
    Claim(
        name="unstructured-pruning-half",
        test="As unstructured-pruning, the score at 50 % sparsity.",
        rows=f"method == '{METHOD}' and quantity == '{_HALF}'",
        quantity=lambda f: at(half_sparse(f["prune"]), method=METHOD),
        reported={POOLED: (_HALF_SPARSE,)},
        optional="no suite of this run prunes half of the entries",
        **_SPARSE | _SECOND,
    ),
    Claim(
        name="unstructured-pruning-methods",
        test="As unstructured-pruning, mean over the other ways to choose entries: per layer, of "
        "ΔW, at random.",
        rows=f"{_OTHERS} and quantity == '{_AREA}'",
        quantity=lambda f: (
            sparsity_area(f["prune"]).query(_OTHERS).groupby(RUN)["value"].mean().reset_index()
        ),
        optional="no suite of this run chooses entries in another way",
        **_SPARSE | _SECOND,
    ),
):
    CLAIMS.add(_one)
