"""The paired test over test items: would these trained runs differ on other items, too?

The test over tasks and seeds asks what other runs on these items would give, this one what these
runs would give on other items of the same tasks. A claim needs both to go beyond this run.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from coto.config import paths
from coto.errors import CotoError
from coto.report.estimate import STRATEGY, Estimate
from coto.report.quantities import BASELINE
from coto.report.resampling import Array, least_p, sign_flip
from coto.report.settings import Settings
from coto.report.statistics import PairedEffect

COLUMNS = ["suite", "adapter", "task", "idx", "seeds", "difference"]
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
            (:func:`coto.report.claim.single_scores`).

    Returns:
        One row per suite, adapter, task and item ``idx``: ``difference``, the mean over the seeds
        that both arms have of being right with CoTo minus being right without, in [-1, 1], and
        ``seeds``, how many they are. Of several protocols the first counts, the headline's.
        Regressions have no rows.

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
            answers = _read(Path(paths.answers(str(path.parent))))
            parts = [_of_task(answers, task, row["trained_on"]) for task in tasks]
            arms[row["strategy"]] += [part.assign(**run) for part in parts]
    if not arms[BASELINE] or not arms[STRATEGY]:
        return pd.DataFrame(columns=COLUMNS)
    base, ours = (pd.concat(arms[name]) for name in (BASELINE, STRATEGY))
    item = ["suite", "adapter", "task", "idx"]
    pairs = ours.merge(base, on=[*item, "seed"], suffixes=("", "_base"))
    pairs["difference"] = pairs["correct"] - pairs["correct_base"]
    found = pairs.groupby(item).agg(seeds=("seed", "nunique"), difference=("difference", "mean"))
    return found.reset_index()[COLUMNS]


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except OSError as error:
        raise CotoError(
            f"{path}: cannot be read ({error}), expected the answers of the run beside its record"
        ) from None


def _of_task(answers: pd.DataFrame, task: str, trained_on: str) -> pd.DataFrame:
    """Whether each item of an evaluation set was answered right, by its headline protocol."""
    # The report calls a set that is scored after several trainings by both names.
    rows = answers[answers["task"] == task.removesuffix(f" after {trained_on}")]
    if "protocol" in rows and len(rows):
        rows = rows[rows["protocol"] == rows["protocol"].iloc[0]]
    return pd.DataFrame({"idx": rows["idx"], "correct": rows["correct"].astype(float)}).assign(
        task=task
    )


def over_items(items: pd.DataFrame, settings: Settings) -> Estimate:
    """Mean over tasks of the mean difference of their items.

    Of several adapter kinds, an item's difference is the mean over them: it is one item. The
    interval resamples the items of every task on its own (percentile bootstrap), p flips the signs
    of items. Where items are many, there are fewer than ``settings.resamples``.

    Args:
        items: rows of :func:`load_items` of one suite, one or more.
        settings: interval level and resampling.
    """
    per_item = items.groupby(["task", "idx"])["difference"].mean()
    tasks = [part.to_numpy(dtype=np.float64) for _, part in per_item.groupby("task")]
    resamples = min(settings.resamples, max(1000, _MOST_DRAWS // len(per_item)))
    low, high = _bootstrap(tasks, settings, resamples)
    weighted = np.concatenate([part / len(part) for part in tasks])
    effect = PairedEffect(
        mean=float(np.mean([part.mean() for part in tasks])),
        low=low,
        high=high,
        p=sign_flip(weighted, resamples=resamples, seed=settings.seed),
        n_pairs=len(per_item),
        n_seeds=int(items["seeds"].max()),
        n_tasks=len(tasks),
        least_p=least_p(int(np.count_nonzero(weighted)), resamples),
    )
    return Estimate(effect)


def _bootstrap(tasks: Sequence[Array], settings: Settings, resamples: int) -> tuple[float, float]:
    if min(map(len, tasks)) < 2:
        return float("nan"), float("nan")
    found = stats.bootstrap(
        tasks,
        lambda *drawn, axis=-1: np.mean([part.mean(axis=axis) for part in drawn], axis=0),
        n_resamples=resamples,
        confidence_level=settings.confidence,
        method="percentile",
        vectorized=True,
        batch=100,
        rng=np.random.default_rng(settings.seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
