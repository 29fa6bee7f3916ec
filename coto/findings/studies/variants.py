"""Studies: one suite varied by strategy, by learning rate or over its training.

The table has a line per variant with its scores, one with its gain, one with the paper's; the
figure is drawn as the authors' rebuttal draws it, the paper's numbers lighter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from coto.config.models import Tables
from coto.findings.studies.quantities import (
    CURVES,
    EVERY_OTHER,
    GENERALIZATION,
    HALF,
    MODES,
    RATIOS,
    SHOWN,
    Form,
    form_of,
    paper_lines,
    rate_of,
    values_of,
)
from coto.report import quantities, tables
from coto.report.comparison import compare, effect, overall, paired
from coto.report.drawing import LIGHT, legend_above, message, new_figure
from coto.report.panels import at, curves, grouped_bars, show_means
from coto.report.quantities import BASELINE, STRATEGY, ranked
from coto.report.records import Frames
from coto.report.settings import LEAST_SEEDS, Axes, Settings, describe
from coto.report.statistics import judge
from coto.report.tables import cell
from coto.report.writing import Table


@dataclass(frozen=True)
class Study:
    """A study's numbers.

    Attributes:
        name: of the study, which its files have, too.
        form: what varies; ``schedules`` has numbers over the training, too.
        adapters: kinds in it.
        tidy: lines of :func:`compare` by ``adapter, lr, share, quantity, task, strategy``. ``lr``
            is NaN where the arms of one line have chosen rates of their own; ``share`` is the part
            of the training done, NaN at its end.
        rates: sentence on the learning rates of the arms, where they are not what varies.
        verdicts: sentences on CoTo against its strongest rival.
    """

    name: str
    form: Form
    adapters: tuple[str, ...]
    tidy: pd.DataFrame
    rates: str
    verdicts: tuple[str, ...]

    @property
    def final(self) -> pd.DataFrame:
        """Lines over all tasks at the end of training."""
        end = self.tidy[self.tidy["share"].isna()]
        return pd.concat([overall(part) for _, part in end.groupby("quantity", sort=False)])


def compare_variants(name: str, axes: Sequence[Axes], frames: Frames, settings: Settings) -> Study:
    """Compare the variants of a study, with the axes of the suites that it is made of."""
    form = form_of(axes)
    rates = {suite.suite: rate_of(suite) if len(axes) > 1 else np.nan for suite in axes}
    rows = values_of(frames, axes)
    rows = rows.assign(lr=rows["suite"].map(rates), suite=name)
    # A missing rate or share is a place as good as another; grouping would drop NaN.
    filled = rows.fillna({"lr": -1.0, "share": -1.0}).assign(metric="headline score")
    tidy = compare(filled, settings, ["lr", "share", "quantity"])
    tidy = tidy.replace({"lr": {-1.0: np.nan}, "share": {-1.0: np.nan}})
    verdicts = tuple(_verdicts(rows, settings)) if form == "strategies" else ()
    grids = "" if form == "rates" else _rates(axes)
    return Study(name, form, tuple(dict.fromkeys(tidy["adapter"])), tidy, grids, verdicts)


def _rates(axes: Sequence[Axes]) -> str:
    """The learning rate of each arm, or those that it was chosen from."""
    grids = {arm: grid for suite in axes for arm, grid in suite.grids.items()}
    choices = (
        f"{arm} {' or '.join(grid)}{' (chosen on validation)' if len(grid) > 1 else ''}"
        for arm, grid in grids.items()
    )
    return f"Learning rates: {'; '.join(choices)}."


def _verdicts(rows: pd.DataFrame, settings: Settings) -> Iterator[str]:
    """CoTo against the strongest other strategy, judged as the claims are."""
    for adapter in ranked("adapter", list(rows["adapter"])):
        for name in (GENERALIZATION, HALF, EVERY_OTHER):
            scores = rows[(rows["quantity"] == name) & (rows["adapter"] == adapter)]
            both = quantities.against_strongest(scores)
            gap = effect(at(paired(both), strategy=STRATEGY))
            if gap is None:
                continue
            (rival,) = both["rival"].dropna().unique()
            share = 0.5 if name == GENERALIZATION else 1.0
            level = settings.confidence
            verdict = judge(gap, margin=share * settings.margin / 100, confidence=level)
            yield (
                f"{adapter}, {name}: CoTo minus {rival}, its strongest rival: "
                f"{cell(gap.mean, 1, gap.interval(level), signed=True)} points, p = {gap.p():.4f}, "
                f"{gap.n_seeds} seeds. CoTo is better: {verdict.label} ({verdict.reason})."
            )


# --- the table ------------------------------------------------------------------------------------

_TITLES: dict[Form, str] = {
    "strategies": "strategies side by side",
    "rates": "over learning rates",
    "schedules": "schedules over the training",
}
READING = (
    "generalization: single runs on the test part. merging: two seeds 1:2 (mean of both "
    "directions) and 1:1, three seeds 1:1:1, factors averaged. pruning: mean over the structured "
    "prunings; everyother: alternate layers removed, mean of both parities. Nothing is retrained.",
    "Scores are averages over tasks with Student's t interval over seeds; so are differences to "
    f"{BASELINE}, which are paired by seed.",
)
ONE_MIX = "merging 1:1:1 of three seeds is one value: it has no interval."
NO_THIRD = (
    "merging 1:2 was not measured: no weight of interpolate.weights lies within 0.005 of 1/3 or "
    "2/3."
)
PAPER = (
    "The paper's lines are few-shot CLIP (16 shots, LoRA) from the authors' rebuttal: {sources}. "
    "They are context, not targets."
)


def study_table(study: Study, settings: Settings, style: Tables) -> Table:
    """The table of a study; its CSV has every task, every share and the paper's numbers."""
    final = study.final
    # The paper's numbers for the variants that the study has.
    paper = paper_lines(study.form).assign(suite=study.name, adapter="lora")
    paper = paper[paper["strategy"].isin(final["strategy"]) & ("lora" in study.adapters)]
    lines = []
    variant = ["adapter", "lr", "strategy"]
    for _, arm in final.groupby(variant, sort=False, dropna=False):
        adapter, lr, strategy = arm[variant].to_numpy()[0]
        rate = "" if pd.isna(lr) else f"{lr:g}"
        place = {"adapter": adapter, "learning rate": rate, "strategy": strategy}
        lines += _measured(arm, place, style)
        if adapter == "lora":
            # No rate equals no rate.
            same = paper["lr"].isna() if pd.isna(lr) else (paper["lr"] / lr - 1).abs() < 1e-6
            lines += _reported(paper[(paper["strategy"] == strategy) & same], place)
    rates = ["learning rate"] if final["lr"].notna().any() else []
    present = [name for name in SHOWN if name in set(final["quantity"])]
    columns = ["adapter", *rates, "strategy", "line", *present]
    mixed = final[final["quantity"] == "merging 1:1:1"]
    origins = dict.fromkeys(zip(paper["source"], paper["quality"], strict=True))
    sources = sorted(s if s.startswith(q) else f"{q}: {s}" for s, q in origins)
    unusual = {
        NO_THIRD: "merging 1:2" not in present and HALF in present,
        ONE_MIX: (mixed["n_values"] == 1).any(),
        tables.FEW: (final["n_values"] < LEAST_SEEDS).any(),
        tables.COLLAPSED: (final["flagged"] > 0).any(),
        PAPER.format(sources="; ".join(sources)): len(paper),
    }
    notes = [
        *(tables.PERCENT.format(level=100 * settings.confidence), *READING),
        *(study.rates, *study.verdicts, *(text for text, true in unusual.items() if true)),
        describe(study.name, settings, "Study"),
    ]
    return Table(
        f"Study {study.name}: {_TITLES[study.form]}",
        pd.concat([study.tidy, paper.assign(kind="paper")], ignore_index=True),
        pd.DataFrame(lines, columns=columns).fillna(""),
        tuple(filter(None, notes)),
    )


def _measured(arm: pd.DataFrame, place: dict[str, str], style: Tables) -> list[dict[str, str]]:
    score, gain = {**place, "line": "score"}, {**place, "line": f"− {BASELINE}"}
    for _, line in arm.iterrows():
        text = cell(line["mean"], style.decimals, (line["low"], line["high"]))
        score[line["quantity"]] = text + (tables.FLAG if line["flagged"] else "")
        bounds = (line["difference_low"], line["difference_high"])
        gain[line["quantity"]] = cell(line["difference"], style.decimals, bounds, signed=True)
    compared = place["strategy"] != BASELINE and arm["difference"].notna().any()
    return [score, gain] if compared else [score]


def _reported(paper: pd.DataFrame, place: dict[str, str]) -> list[dict[str, Any]]:
    """One line per data set; over the training, the last snapshot that is known."""
    lines = []
    for label, rows in paper.groupby("label", sort=False):
        last = rows["share"].max()
        line: dict[str, Any] = {**place, "line": str(label)}
        if pd.notna(last):
            line["line"] += f", after {100 * last:g} % of the training"
            rows = rows[rows["share"] == last]
        line |= {name: f"{100 * x:.1f}" for name, x in rows[["quantity", "mean"]].to_numpy()}
        lines.append(line)
    return lines


# --- the figure -----------------------------------------------------------------------------------


def draw_study(study: Study) -> Figure:
    """Bars by strategy, or lines over learning rates or the training, whichever varies."""
    if study.tidy.empty:
        return message("Nothing was measured.")
    return _bars(study) if study.form == "strategies" else _lines(study)


def _bars(study: Study) -> Figure:
    """Left: merging ratios (Figure r2); right: what pruning keeps (Figure r3)."""
    final = study.final
    arms = ranked("strategy", list(final["strategy"]))
    rows = [(adapter, final[final["adapter"] == adapter]) for adapter in study.adapters]
    if "lora" in study.adapters:
        paper = paper_lines("strategies")
        paper = paper[(paper["task"] == "DTD") & paper["strategy"].isin(arms)]
        spread = {"low": paper["mean"] - paper["std"], "high": paper["mean"] + paper["std"]}
        rows.append(("paper", paper.assign(**spread)))
    picture = new_figure(9.0, 2.1 * len(rows) + 0.7)
    grid = picture.subplots(len(rows), 2, width_ratios=(4, 8), sharey="row", squeeze=False)
    for (name, values), (left, right) in zip(rows, grid, strict=True):
        light = name == "paper"
        for axes, labels in ((left, RATIOS), (right, MODES)):
            grouped_bars(axes, values, "quantity", list(labels.values()), arms, light=light)
            axes.set_xticks(np.arange(len(labels)), list(labels))
        left.set_title(f"{name}: merging ratio", loc="left")
        where = " (CLIP ViT-B/16 on DTD, ± standard deviation)" if light else ""
        right.set_title(f"{name}: adapters kept{where}", loc="left")
        left.set_ylabel("score (%)")
        top = 100 * values["high"].fillna(values["mean"]).max()
        left.set_ylim(0, min(104.0, 1.06 * top))
    legend_above(picture, grid[0][0])
    return picture


def _lines(study: Study) -> Figure:
    """Three panels over learning rates (Figure r6) or over the training (Figure r1)."""
    over, label = "lr", "learning rate"
    if study.form == "schedules":
        over, label = "share", "training done (%)"
    tidy = study.tidy[study.tidy[over].notna()]
    if tidy.empty:
        return message("Nothing was measured.")
    tidy = pd.concat([overall(part) for _, part in tidy.groupby("quantity", sort=False)])
    arms = ranked("strategy", list(tidy["strategy"]))
    paper = paper_lines(study.form)
    paper = paper[paper["strategy"].isin(arms)]
    if over == "share":
        tidy, paper = (lines.assign(share=100 * lines["share"]) for lines in (tidy, paper))
    light = {"linestyle": "--", "linewidth": 1.0, "markersize": 2.5, "alpha": LIGHT}
    picture = new_figure(9.5, 2.4 * len(study.adapters) + 0.9)
    grid = picture.subplots(len(study.adapters), len(CURVES), sharex=True, squeeze=False)
    for adapter, line in zip(study.adapters, grid, strict=True):
        for axes, quantity in zip(line, CURVES, strict=True):
            ours = at(tidy, adapter=adapter, quantity=quantity)
            theirs = paper[(paper["quantity"] == quantity) & (adapter == "lora")]
            curves(axes, ours, over, arms, linewidth=1.6)
            curves(axes, theirs, over, arms, label="{}, paper: CLIP ViT-B/16, DTD", **light)
            means = pd.concat([ours["mean"], theirs["mean"]])
            if means.notna().any():
                show_means(axes, means)
            else:  # such as merges of a single seed
                middle = {"ha": "center", "va": "center", "transform": axes.transAxes}
                axes.text(0.5, 0.5, "not measured", **middle)
            axes.set_title(f"{adapter}: {quantity}")
            if over == "lr":
                axes.set_xscale("log")
        line[0].set_ylabel("score (%)")
    for axes in grid[-1]:
        axes.set_xlabel(label)
    # The panel with the most lines, so that the legend names the paper's, too.
    legend_above(picture, max(grid.flat, key=lambda axes: len(axes.lines)))
    return picture
