"""Tables of merges: two or three seeds of a task, and all tasks in one adapter."""

import math
from itertools import product

import pandas as pd

from coto.config.models import Tables
from coto.findings.merging import quantities
from coto.findings.merging.quantities import PAPER, midpoints, path_scores, three_way
from coto.report import tables
from coto.report.comparison import AVERAGE, compare, overall
from coto.report.panels import at
from coto.report.paper import Reported
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.tables import UNDEFINED, Block, table
from coto.report.writing import Table

_INDEX = {"adapter": "adapter", "operator": "operator"}
_DRAWS = (
    "±: standard deviation over an operator's own draws (seeds of clustering or of random masks) "
    "of the same adapters, averaged over tasks and seeds."
)
_PAPER_DRAWS = "The paper's ± is that of its average over tasks, of five draws."
_OPERATORS = (
    "fusion averages A and B, ensemble averages ΔW. What an operator measures of the whole "
    "adapter (error of the truncated decomposition, variance within clusters, gaps) is in the CSV."
)


def measured_paths(frames: Frames) -> pd.DataFrame:
    """Scores of the operators that were measured at more weights than one."""
    rows = path_scores(frames["interpolate"])
    return rows[rows.groupby(["suite", *_INDEX])["weight"].transform("nunique") > 1]


@table("interpolation", needs=("interpolate",))
def interpolation(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Linear mode connectivity: two seeds of the same arm, mixed with weight λ.

    Shown are the score half-way and the barrier, the largest drop below the straight line between
    both ends; and, where there are three seeds, the score of their equal mixture. *fusion* averages
    the factors A and B, *ensemble* averages ΔW. Means are in percent, with the number of seeds and
    intervals in brackets; full precision and single tasks are in the CSV.
    """
    title = "Linear mode connectivity: the path between two seeds of one run"
    rows = measured_paths(frames)
    if rows.empty:
        return tables.empty(title, "No paths were measured: they need two seeds.")
    paths = rows[["suite", *_INDEX]].drop_duplicates()
    path = compare(rows, settings, ["operator", "weight"]).assign(quantity="score")
    middle = path[(path["weight"] - 0.5).abs() < 1e-9].assign(quantity="score at λ = 0.5")
    barrier = compare(quantities.barriers(frames["interpolate"]), settings, ["operator"])
    triples = compare(three_way(frames["interpolate"]).merge(paths), settings, ["operator"])
    triples = triples.assign(quantity="score of three seeds 1:1:1")
    more = [*filter(len, (barrier.assign(quantity="barrier"), triples))]
    shown = pd.concat([*filter(len, [middle]), *more]).drop(columns="weight")
    shown = tables.ordered(shown, "operator")
    index = _INDEX | {"quantity": "quantity", "task": "task"}
    display = tables.side_by_side(shown, index, style.decimals).drop(columns="source")
    remarks = (
        "λ is the weight of the second seed. fusion averages A and B, ensemble averages ΔW.",
        "Barrier: how far the path sags below the straight line between its ends, at most; "
        "smaller is better.",
        "One value per pair of seeds, or per three; what shares a seed is not independent.",
    )
    return Table(title, pd.concat([path, *more]), display, tables.notes(settings, shown, *remarks))


@table("seed_merging", needs=("interpolate",))
def seed_merging(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Adapters of two or three seeds of one arm and task, merged at equal shares by every operator.

    Averages over tasks. Means are in percent, with the number of seeds and intervals in brackets; ±
    is the standard deviation over an operator's own draws. Where an operator is not defined, a note
    says why. Full precision, single tasks and what the operators measured are in the CSV.
    """
    title = "Merging across seeds: adapters of one task at equal shares"
    pairs = midpoints(frames["interpolate"]).assign(merged="1:1")
    triples = three_way(frames["interpolate"]).assign(merged="1:1:1")
    rows = pd.concat([*filter(len, (pairs, triples))] or [pairs])
    if rows.empty:
        return tables.empty(title, "No seeds were merged: they need two seeds, and λ = 0.5.")
    by = ["operator", "merged"]
    gaps, measured = (_of_stage(frames[name], "interpolate") for name in ("gaps", "measured"))
    tidy = _with_measures(compare(rows, settings, by), measured, ["merged", "task"])
    shown = _with_gaps(overall(tidy, by), gaps, by)
    index = _INDEX | {"merged": "seeds merged", "task": "task", "metric": "metric"}
    display = tables.side_by_side(shown, index, style.decimals).drop(columns="source")
    remarks = (
        *_about_operators(shown, gaps),
        "One value per pair of seeds, or per three; what shares a seed is not independent. The "
        "CSV has every task.",
    )
    return Table(
        title, _with_gaps(tidy, gaps, by), display, tables.notes(settings, shown, *remarks)
    )


@table("multitask_merging", needs=("merge",), rebuttal="r1")
def multitask_merging(frames: Frames, settings: Settings, style: Tables) -> Table:
    """The adapters of all tasks of a suite merged into one, each task keeping its own head.

    *fusion* averages the factors A and B, *ensemble* averages ΔW. Means are in percent, with the
    number of seeds and intervals in brackets; ± is the standard deviation over an operator's own
    draws. Where an operator is not defined, a note says why. Full precision and what the operators
    measured are in the CSV.
    """
    title = "Multi-task merging: one adapter for all tasks"
    if frames["merge"].empty:
        reason = "No merges were measured: they need a suite of two or more tasks."
        return tables.empty(title, reason)
    rows = quantities.merged_scores(frames["merge"])
    gaps, measured = (_of_stage(frames[name], "merge") for name in ("gaps", "measured"))
    tidy = _with_measures(compare(rows, settings, ["operator"]), measured, [])
    shown = _with_gaps(_with_paper(tidy, settings), gaps, ["operator"])
    index = _INDEX | {"task": "task", "metric": "metric"}
    display = tables.side_by_side(shown, index, style.decimals)
    most = " or ".join(map(str, sorted(set(rows["merged_tasks"]))))
    remarks = (
        f"{most} tasks merged with equal weights unless configured otherwise.",
        *_about_operators(shown, gaps),
        *about_draws(at(shown, kind="paper"), _PAPER_DRAWS),
        "The merge of one seed is one model for all tasks, so its tasks are not independent.",
    )
    return Table(title, shown, display, tables.notes(settings, shown, *remarks))


def _with_paper(tidy: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """With the paper's averages of merged tasks, pairs of lines by operator."""
    lines = []
    for suite, (operator, numbers) in product(dict.fromkeys(tidy["suite"]), PAPER.items()):
        ours = at(tidy, suite=suite, operator=operator)
        for of in [of for of in numbers if of.kind == (settings.kind(suite) or "text")]:
            methods = {"lora": (str(of.baseline), of.coto)}
            block = Block(f"paper, {label_of(of)}", of.experiment, of.task, of.metric, methods)
            more = tables.block_lines(ours, suite, block)
            lines += [line | {"operator": operator} for line in more]
    return tables.append_lines(tidy, lines)


def label_of(of: Reported) -> str:
    """The backbone before the tasks."""
    tasks, backbone, *lr = of.label.split(", ")
    return ", ".join([backbone, tasks, *lr])


def _of_stage(rows: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Rows of one stage of merging; ``merged`` says at which shares, such as ``1:1``."""
    rows = rows[rows["stage"] == stage]
    return rows.assign(merged=[":".join("1" * (s.count("-") + 1)) for s in rows["seeds"]])


def _with_measures(tidy: pd.DataFrame, measured: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Add a column for each measure of whole adapters: the mean over seeds, draws and tasks."""
    whole = at(measured, module="")
    if whole.empty:
        return tidy
    each = pd.concat([whole, whole.assign(task=AVERAGE)]) if "task" in by else whole
    place = ["suite", *_INDEX, "strategy", *by]
    means = each.pivot_table("value", place, "measure", "mean").reset_index()
    return tidy.merge(means, on=place, how="left")


def _with_gaps(tidy: pd.DataFrame, gaps: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Add a line for each arm and operator without a score, and sort by operator."""
    keys = ["suite", "adapter", "strategy", *by]
    lines = gaps[keys].drop_duplicates().merge(tidy[keys].drop_duplicates(), "left", indicator=True)
    lines = lines[lines.pop("_merge") == "left_only"]
    if len(lines):
        lines = lines.assign(task=UNDEFINED, metric="", kind="gap", flagged=0, mean=math.nan)
        tidy = pd.concat([tidy, lines.assign(source="not defined")], ignore_index=True)
    return tables.ordered(tidy, *by)


def _about_operators(shown: pd.DataFrame, gaps: pd.DataFrame) -> list[str]:
    """Notes on operators: what they are, their draws, and why some are not defined."""
    undefined = (f"{UNDEFINED} {why}." for why in sorted(set(gaps["reason"])))
    return [_OPERATORS, *about_draws(shown), *undefined]


def about_draws(lines: pd.DataFrame, note: str = _DRAWS) -> list[str]:
    """The note on ± where a line has one."""
    return [note] if "repeat_sd" in lines and lines["repeat_sd"].notna().any() else []
