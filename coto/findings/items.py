"""The test over items: what these trained runs would give on other items of the same tasks.

The test over tasks and seeds asks what other runs would give on these items. A claim needs both to
go beyond this run.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from coto.errors import CotoError
from coto.report.quantities import BASELINE, STRATEGY
from coto.report.settings import Settings
from coto.report.statistics import Estimate

ITEM_COLUMNS = ["suite", "adapter", "task", "idx", "seeds", "difference"]
_RUN = ["suite", "trained_on", "adapter", "strategy", "lr", "seed"]
# Headline metrics that are no mean over items of being right or not.
_NOT_OF_ITEMS = ("pearson", "spearmanr")


def load_items(train_records: Iterable[Path | str], runs: pd.DataFrame) -> pd.DataFrame:
    """What every test item says of CoTo against vanilla.

    Args:
        train_records: of all runs; each has its answers beside it.
        runs: headline test scores of the runs that the report uses
            (:func:`coto.report.quantities.single_scores`).

    Returns:
        One row per suite, adapter, task and item ``idx``: ``difference``, the mean over the seeds
        that both arms have of being right with CoTo minus being right without, in [-1, 1], and
        ``seeds``, how many they are. Regressions have no rows.

    Raises:
        CotoError: a run has no answers.
    """
    used = runs[runs["strategy"].isin([BASELINE, STRATEGY]) & ~runs["metric"].isin(_NOT_OF_ITEMS)]
    wanted = {run: sorted(set(rows["task"])) for run, rows in used.groupby(_RUN)}
    arms: dict[str, list[pd.DataFrame]] = {BASELINE: [], STRATEGY: []}
    for path in map(Path, train_records):
        row = json.loads(path.read_text(encoding="utf-8"))["rows"][0]
        run = dict(zip(_RUN, (row[name] for name in _RUN), strict=True))
        tasks = wanted.get(tuple(run.values()), [])
        if tasks:
            answers = _read(path.with_name("answers.parquet"))
            arms[row["strategy"]] += [_of_task(answers, task, run) for task in tasks]
    if not arms[BASELINE] or not arms[STRATEGY]:
        return pd.DataFrame(columns=ITEM_COLUMNS)
    base, ours = (pd.concat(arms[name]) for name in (BASELINE, STRATEGY))
    item = ["suite", "adapter", "task", "idx"]
    pairs = ours.merge(base, on=[*item, "seed"], suffixes=("", "_base"))
    pairs["difference"] = pairs["correct"] - pairs["correct_base"]
    items = pairs.groupby(item).agg(seeds=("seed", "nunique"), difference=("difference", "mean"))
    return items.reset_index()[ITEM_COLUMNS]


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except OSError as error:
        raise CotoError(
            f"{path}: cannot be read ({error}), expected the answers of the run beside its record"
        ) from None


def _of_task(answers: pd.DataFrame, task: str, run: dict[str, Any]) -> pd.DataFrame:
    """Whether each item of an evaluation set was answered right, by its headline protocol."""
    # The report calls a set that is scored after several trainings by both names.
    rows = answers[answers["task"] == task.removesuffix(f" after {run['trained_on']}")]
    if "protocol" in rows and len(rows):  # the first one is the headline's
        rows = rows[rows["protocol"] == rows["protocol"].iloc[0]]
    columns = {"idx": rows["idx"], "correct": rows["correct"].astype(float)}
    return pd.DataFrame(columns).assign(task=task, **run)


def over_items(items: pd.DataFrame, settings: Settings) -> Estimate:
    """Mean over tasks of the mean difference of the items of one suite (:func:`load_items`).

    Of several adapter kinds, an item's difference is the mean over them: it is one item. Items are
    drawn within each task: the error of the mean is that of a stratified sample, with as many
    degrees of freedom as items beyond one per task.
    """
    per_item = items.groupby(["task", "idx"])["difference"].mean()
    tasks = per_item.groupby("task").agg(["mean", "var", "size"])
    # Of a single item the variance is not known, and the error with it.
    error = math.sqrt((tasks["var"] / tasks["size"]).sum(skipna=False)) / len(tasks)
    items_left, seeds = len(per_item) - len(tasks), int(items["seeds"].max())
    counts = len(per_item), seeds, len(tasks), len(per_item)
    return Estimate(float(tasks["mean"].mean()), error, items_left, *counts)
