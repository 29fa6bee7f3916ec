"""Tables of adapters changed after training: interpolated, merged, pruned."""

import pandas as pd

from coto.report import quantities
from coto.report.comparison import compare, overall, side_by_side
from coto.report.context import with_clip, with_multi_task
from coto.report.settings import Settings, Style
from coto.report.table_base import Frames, empty, notes, ordered, ordered_by_suite, table
from coto.report.writing import Table


@table("interpolation")
def interpolation(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores on the path between two seeds: half-way, and the barrier; all weights in the CSV."""
    title = "Linear mode connectivity: the path between two seeds of one run"
    if frames["interpolate"].empty:
        return empty(title, "No paths were measured: they need two seeds.")
    path = compare(quantities.path_scores(frames["interpolate"]), settings, ["space", "weight"])
    barrier = compare(quantities.barriers(frames["interpolate"]), settings, ["space"])
    three = compare(quantities.three_way(frames["interpolate"]), settings, ["space"])
    path, barrier = path.assign(quantity="score"), barrier.assign(quantity="barrier")
    three = three.assign(quantity="score of three seeds 1:1:1")
    middle = path[(path["weight"] - 0.5).abs() < 1e-9].assign(quantity="score at λ = 0.5")
    parts = [part for part in (middle, barrier, three) if len(part)]
    shown = ordered(pd.concat(parts).drop(columns="weight"))
    index = {"adapter": "adapter", "space": "space", "quantity": "quantity", "task": "task"}
    display = side_by_side(shown, index, style.decimals).drop(columns="source")
    return Table(
        title,
        pd.concat([part for part in (path, barrier, three) if len(part)]),
        display,
        notes(
            settings,
            shown,
            "λ is the weight of the second seed. fusion averages A and B, ensemble averages ΔW.",
            "Barrier: how far the path sags below the straight line between its ends, at most; "
            "smaller is better.",
            "One value per pair of seeds, or per three; what shares a seed is not independent.",
        ),
    )


@table("multitask_merging")
def multitask_merging(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores of one adapter merged from all tasks, each task with its own head."""
    title = "Multi-task merging: one adapter for all tasks"
    if frames["merge"].empty:
        return empty(title, "No merges were measured: they need a suite of two or more tasks.")
    rows = quantities.merged_scores(frames["merge"])
    tidy = compare(rows, settings, ["space"])
    shown = ordered_by_suite(with_multi_task(tidy, settings))
    index = {"adapter": "adapter", "space": "space", "task": "task", "metric": "metric"}
    most = " or ".join(map(str, sorted(set(rows["merged_tasks"]))))
    found = notes(
        settings,
        shown,
        f"{most} tasks merged with equal weights unless configured otherwise. "
        "fusion averages A and B, ensemble averages ΔW.",
        "The merge of one seed is one model for all tasks, so its tasks are not independent.",
    )
    return Table(title, shown, side_by_side(shown, index, style.decimals), found)


@table("pruning")
def pruning(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores after removing adapters without retraining, beside the paper's CLIP averages."""
    title = "Structured pruning without retraining, average over tasks"
    if frames["prune"].empty:
        return empty(title, "Pruning was not measured.")
    rows = quantities.headline(frames["prune"])
    tidy = compare(rows, settings, ["keep"])
    kept = rows.groupby(["suite", "adapter", "keep"])[["adapters_kept", "adapters_total"]].first()
    tidy = tidy.merge(kept.reset_index(), on=["suite", "adapter", "keep"], how="left")
    shown = overall(tidy)
    shown = shown.assign(
        share=shown["adapters_kept"].astype(str) + "/" + shown["adapters_total"].astype(str)
    )
    index = {"adapter": "adapter", "keep": "kept", "share": "adapters"}
    display = side_by_side(shown, index, style.decimals).drop(columns="source")
    display, tidy, quality = with_clip(display, tidy)
    found = notes(
        settings,
        shown,
        "odd and even keep every other layer; low, middle and high a third of the layers; query, "
        "key and value one projection. The CSV has every task.",
        f"The paper's column is another suite ({quality}; rebuttal figure r7 in the authors' "
        "repository; both arms the authors' own runs) and its everyother stands beside both "
        "parities.",
    )
    return Table(title, tidy, display, found)
