"""A study's table: a line per variant with its scores, one with its gain, one with the paper's."""

from typing import Any

import pandas as pd

from coto.report.display import FLAG, cell
from coto.report.quantities import BASELINE
from coto.report.settings import Settings, Style
from coto.report.study import SHOWN, Form, Study
from coto.report.study_paper import paper_lines
from coto.report.suites import describe
from coto.report.table_base import COLLAPSED, PERCENT, TWO_VALUES
from coto.report.writing import Table

_TITLES: dict[Form, str] = {
    "strategies": "strategies side by side",
    "rates": "over learning rates",
    "schedules": "schedules over the training",
}
READING = (
    "generalization: single runs on the test part. merging: two seeds 1:2 (mean of both "
    "directions) and 1:1, three seeds 1:1:1, factors averaged. pruning: mean over the structured "
    "prunings; everyother: alternate layers removed, mean of both parities. Nothing is retrained.",
    "Scores are averages over tasks with Student's t interval over seeds. Differences to "
    f"{BASELINE} are paired over tasks and seeds, with the bootstrap interval that the claims use; "
    "of a single task they have Student's interval.",
)
ONE_MIX = (
    "merging 1:1:1 of three seeds is one value per task: its interval knows of the tasks only."
)
NO_THIRD = (
    "merging 1:2 was not measured: no weight of interpolate.weights lies within 0.005 of 1/3 or "
    "2/3."
)
PAPER = (
    "The paper's lines are few-shot CLIP (16 shots, LoRA) from the authors' rebuttal: {sources}. "
    "They are context, not targets."
)


def study_table(study: Study, settings: Settings, style: Style) -> Table:
    """Build the table of a study; its CSV has every task, every share and the paper's numbers."""
    final = study.final
    paper = _beside(study, final)
    lines = []
    places = final[["adapter", "lr"]].drop_duplicates().to_numpy().tolist()
    for adapter, lr in places:
        here = final[(final["adapter"] == adapter) & _same(final["lr"], lr)]
        for strategy in dict.fromkeys(here["strategy"]):
            place = {"adapter": adapter, "learning rate": _rate(lr), "strategy": strategy}
            arm = here[here["strategy"] == strategy]
            lines += _measured(arm, place, style)
            if adapter == "lora":
                said = paper[(paper["strategy"] == strategy) & _same(paper["lr"], lr)]
                lines += _reported(said, place)
    index = [
        "adapter",
        *(["learning rate"] if final["lr"].notna().any() else []),
        "strategy",
        "line",
    ]
    present = [name for name in SHOWN if name in set(final["quantity"])]
    display = pd.DataFrame(lines, columns=[*index, *present]).fillna("")
    data = pd.concat([study.tidy, paper.assign(kind="paper")], ignore_index=True)
    notes = [PERCENT.format(level=100 * settings.confidence), *READING]
    notes += [study.rates] if study.rates else []
    notes += study.verdicts
    if "merging 1:2" not in present and "merging 1:1" in present:
        notes.append(NO_THIRD)
    if (final.loc[final["quantity"] == "merging 1:1:1", "n_values"] == 1).any():
        notes.append(ONE_MIX)
    if (final["n_values"] == 2).any():
        notes.append(TWO_VALUES)
    if (final["flagged"] > 0).any():
        notes.append(COLLAPSED)
    if len(paper):
        origins = dict.fromkeys(zip(paper["source"], paper["quality"], strict=True))
        told = (s if s.startswith(q) else f"{q}: {s}" for s, q in origins)
        sources = "; ".join(sorted(told))
        notes.append(PAPER.format(sources=sources))
    notes += [about] if (about := describe(study.name, settings, "Study")) else []
    return Table(f"Study {study.name}: {_TITLES[study.form]}", data, display, tuple(notes))


def _beside(study: Study, final: pd.DataFrame) -> pd.DataFrame:
    """The paper's numbers for the variants that the study has; curves by their last snapshot."""
    paper = paper_lines(study.form).assign(suite=study.name, adapter="lora")
    if "lora" not in study.adapters:
        return paper.iloc[:0]
    return paper[paper["strategy"].isin(set(final["strategy"]))]


def _measured(arm: pd.DataFrame, place: dict[str, str], style: Style) -> list[dict[str, str]]:
    score, gain = {**place, "line": "score"}, {**place, "line": f"− {BASELINE}"}
    for _, found in arm.iterrows():
        text = cell(found["mean"], style.decimals, (found["low"], found["high"]))
        score[found["quantity"]] = text + (FLAG if found["flagged"] else "")
        bounds = (found["difference_low"], found["difference_high"])
        gain[found["quantity"]] = cell(found["difference"], style.decimals, bounds, signed=True)
    compared = place["strategy"] != BASELINE and arm["difference"].notna().any()
    return [score, gain] if compared else [score]


def _reported(paper: pd.DataFrame, place: dict[str, str]) -> list[dict[str, Any]]:
    """One line per data set; over the training, the last snapshot that is known."""
    lines = []
    for label, said in paper.groupby("label", sort=False):
        last = said["share"].max()
        line: dict[str, Any] = {**place, "line": str(label)}
        if pd.notna(last):
            line["line"] += f", after {100 * last:g} % of the training"
            said = said[said["share"] == last]
        for _, value in said.iterrows():
            line[value["quantity"]] = f"{100 * value['mean']:.1f}"
        lines.append(line)
    return lines


def _same(rates: pd.Series, rate: float) -> pd.Series:
    """Where a rate equals another; no rate equals no rate."""
    if pd.isna(rate):
        return rates.isna()
    return (rates / rate - 1).abs() < 1e-6


def _rate(rate: float) -> str:
    return "" if pd.isna(rate) else f"{rate:g}"
