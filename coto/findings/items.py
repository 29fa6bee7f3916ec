"""The test over items: what these trained runs would give on other items of the same tasks.

The test over tasks and seeds asks what other runs would give on these items. A claim needs both to
go beyond this run.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from coto.errors import CotoError
from coto.report import statistics
from coto.report.claim import Estimate
from coto.report.quantities import BASELINE, STRATEGY
from coto.report.settings import Settings

ITEM_COLUMNS = ["suite", "adapter", "task", "idx", "seeds", "difference"]
_RUN = ["suite", "trained_on", "adapter", "strategy", "lr", "seed"]
# Headline metrics that are no mean over items of being right or not.
_NOT_OF_ITEMS = ("pearson", "spearmanr")
# Resampled items of one test: 2,000 resamples of 20,000 items take seconds, 10,000 half a minute.
_MOST_DRAWS = 40_000_000


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

    Of several adapter kinds, an item's difference is the mean over them: it is one item. The
    interval resamples the items of every task on its own (percentile bootstrap), p flips the signs
    of items. Where items are many, there are fewer than ``settings.resamples``.
    """
    per_item = items.groupby(["task", "idx"])["difference"].mean()
    tasks = [part.to_numpy(dtype=np.float64) for _, part in per_item.groupby("task")]
    resamples = min(settings.resamples, max(1000, _MOST_DRAWS // len(per_item)))
    low, high = float("nan"), float("nan")
    if min(map(len, tasks)) > 1:
        low, high = statistics.percentiles(
            tasks,
            lambda *drawn, axis=-1: np.mean([part.mean(axis=axis) for part in drawn], axis=0),
            confidence_level=settings.confidence,
            n_resamples=resamples,
            batch=100,
            rng=np.random.default_rng(settings.seed),
        )
    weighted = np.concatenate([part / len(part) for part in tasks])
    effect = statistics.PairedEffect(
        mean=float(np.mean([part.mean() for part in tasks])),
        low=low,
        high=high,
        p=statistics.sign_flip(weighted, resamples=resamples, seed=settings.seed),
        n_pairs=len(per_item),
        n_seeds=int(items["seeds"].max()),
        n_tasks=len(tasks),
        least_p=statistics.least_p(int(np.count_nonzero(weighted)), resamples),
    )
    return Estimate(effect)
