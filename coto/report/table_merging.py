"""Tables of merged adapters: two seeds along their path, seeds at equal shares, all tasks."""

import math

import pandas as pd

from coto.report import quantities
from coto.report.comparison import AVERAGE, compare, overall
from coto.report.context import with_multi_task
from coto.report.display import UNDEFINED, side_by_side
from coto.report.quantities_analysis import seed_merges
from coto.report.settings import Settings, Style
from coto.report.table_base import Frames, empty, notes, ordered, table
from coto.report.writing import Table

_PLACE = ["suite", "adapter", "operator"]
DRAWS = (
    "±: standard deviation over an operator's own draws (seeds of clustering or of random masks) "
    "of the same adapters, averaged over tasks and seeds."
)
PAPER_DRAWS = "The paper's ± is that of its average over tasks, of five draws."
OPERATORS = (
    "fusion averages A and B, ensemble averages ΔW. What an operator measures of the whole "
    "adapter (error of the truncated decomposition, variance within clusters, gaps) is in the CSV."
)


@table("interpolation")
def interpolation(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores on the path between two seeds: half-way, and the barrier; all weights in the CSV."""
    title = "Linear mode connectivity: the path between two seeds of one run"
    rows = _with_paths(quantities.path_scores(frames["interpolate"]))
    if rows.empty:
        return empty(title, "No paths were measured: they need two seeds.")
    path = compare(rows, settings, ["operator", "weight"])
    barrier = compare(quantities.barriers(frames["interpolate"]), settings, ["operator"])
    triples = quantities.three_way(frames["interpolate"]).merge(rows[_PLACE].drop_duplicates())
    three = compare(triples, settings, ["operator"])
    path, barrier = path.assign(quantity="score"), barrier.assign(quantity="barrier")
    three = three.assign(quantity="score of three seeds 1:1:1")
    middle = path[(path["weight"] - 0.5).abs() < 1e-9].assign(quantity="score at λ = 0.5")
    parts = [part for part in (middle, barrier, three) if len(part)]
    shown = ordered(pd.concat(parts).drop(columns="weight"), "operator")
    index = {"adapter": "adapter", "operator": "operator", "quantity": "quantity", "task": "task"}
    return Table(
        title,
        pd.concat([part for part in (path, barrier, three) if len(part)]),
        side_by_side(shown, index, style.decimals).drop(columns="source"),
        notes(
            settings,
            shown,
            "λ is the weight of the second seed. fusion averages A and B, ensemble averages ΔW.",
            "Barrier: how far the path sags below the straight line between its ends, at most; "
            "smaller is better.",
            "One value per pair of seeds, or per three; what shares a seed is not independent.",
        ),
    )


def _with_paths(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the operators that were measured at more weights than one."""
    weights = rows.groupby(_PLACE)["weight"].transform("nunique")
    return rows[weights > 1]


@table("seed_merging")
def seed_merging(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores of two or three seeds of one task merged at equal shares, by every operator."""
    title = "Merging across seeds: adapters of one task at equal shares"
    pairs = seed_merges(frames["interpolate"]).assign(merged="1:1")
    triples = quantities.three_way(frames["interpolate"]).assign(merged="1:1:1")
    rows = pd.concat([part for part in (pairs, triples) if len(part)] or [pairs])
    if rows.empty:
        return empty(title, "No seeds were merged: they need two seeds, and λ = 0.5.")
    by = ["operator", "merged"]
    tidy = compare(rows, settings, by)
    gaps = _of_stage(frames["gaps"], "interpolate")
    tidy = _measured(tidy, _of_stage(frames["measured"], "interpolate"), ["merged", "task"])
    shown = _with_gaps(overall(tidy, by), gaps, by)
    index = {"adapter": "adapter", "operator": "operator", "merged": "seeds merged"}
    index |= {"task": "task", "metric": "metric"}
    found = notes(
        settings,
        shown,
        *_told(shown, gaps),
        "One value per pair of seeds, or per three; what shares a seed is not independent. The "
        "CSV has every task.",
    )
    display = side_by_side(shown, index, style.decimals).drop(columns="source")
    return Table(title, _with_gaps(tidy, gaps, by), display, found)


@table("multitask_merging")
def multitask_merging(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores of one adapter merged from all tasks, each task with its own head."""
    title = "Multi-task merging: one adapter for all tasks"
    if frames["merge"].empty:
        return empty(title, "No merges were measured: they need a suite of two or more tasks.")
    rows = quantities.merged_scores(frames["merge"])
    gaps = _of_stage(frames["gaps"], "merge")
    tidy = compare(rows, settings, ["operator"])
    tidy = _measured(tidy, _of_stage(frames["measured"], "merge"), [])
    shown = _with_gaps(with_multi_task(tidy, settings), gaps, ["operator"])
    index = {"adapter": "adapter", "operator": "operator", "task": "task", "metric": "metric"}
    most = " or ".join(map(str, sorted(set(rows["merged_tasks"]))))
    found = notes(
        settings,
        shown,
        f"{most} tasks merged with equal weights unless configured otherwise.",
        *_told(shown, gaps),
        *([PAPER_DRAWS] if _draws(shown[shown["kind"] == "paper"]) else []),
        "The merge of one seed is one model for all tasks, so its tasks are not independent.",
    )
    return Table(title, shown, side_by_side(shown, index, style.decimals), found)


def _of_stage(rows: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Rows of one stage of merging; ``merged`` says at which shares, such as ``1:1``."""
    rows = rows[rows["stage"] == stage]
    return rows.assign(merged=[":".join("1" * (s.count("-") + 1)) for s in rows["seeds"]])


def _measured(tidy: pd.DataFrame, measured: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Add a column for each measure of whole adapters: the mean over seeds and draws.

    Averages over tasks get the mean over tasks.
    """
    whole = measured[measured["module"] == ""]
    if whole.empty:
        return tidy
    averaged = whole.assign(task=AVERAGE) if "task" in by else whole.iloc[:0]
    each = pd.concat([whole, averaged])
    means = each.pivot_table("value", [*_PLACE, "strategy", *by], "measure", "mean").reset_index()
    return tidy.merge(means, on=[*_PLACE, "strategy", *by], how="left")


def _with_gaps(tidy: pd.DataFrame, gaps: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Add a line for each arm and operator without a score, and sort by operator."""
    keys = ["suite", "adapter", "strategy", *by]
    lines = gaps[keys].drop_duplicates().merge(tidy[keys].drop_duplicates(), "left", indicator=True)
    lines = lines[lines.pop("_merge") == "left_only"]
    if len(lines):
        lines = lines.assign(task=UNDEFINED, metric="", kind="gap", flagged=0, mean=math.nan)
        tidy = pd.concat([tidy, lines.assign(source="not defined")], ignore_index=True)
    return ordered(tidy, *by)


def _told(shown: pd.DataFrame, gaps: pd.DataFrame) -> list[str]:
    """Notes on operators: what they are, their draws, and why some are not defined."""
    draws = [DRAWS] if _draws(shown) else []
    return [OPERATORS, *draws, *(f"{UNDEFINED} {why}." for why in sorted(set(gaps["reason"])))]


def _draws(lines: pd.DataFrame) -> bool:
    return "repeat_sd" in lines and bool(lines["repeat_sd"].notna().any())
