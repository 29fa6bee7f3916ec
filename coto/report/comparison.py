"""Arms side by side: means with intervals and paired differences."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from coto.report.quantities import BASELINE, ranked
from coto.report.settings import Settings
from coto.report.statistics import PairedEffect, mean_interval, paired_effect

AVERAGE = "Average"


def paired(rows: pd.DataFrame, split_by: Sequence[str] = ()) -> pd.DataFrame:
    """Add ``difference``: the value minus the baseline's for the same task and seed.

    NaN where the baseline lacks that pair. ``rows`` must hold one value per suite, adapter,
    ``split_by``, task, strategy and seed.
    """
    place = ["suite", "adapter", *split_by, "task", "seed"]
    base = rows.loc[rows["strategy"] == BASELINE, [*place, "value"]]
    joined = rows.merge(base.rename(columns={"value": "base"}), on=place, how="left")
    return joined.assign(difference=joined["value"] - joined["base"]).drop(columns="base")


def effect(pairs: pd.DataFrame, strategy: str, settings: Settings) -> PairedEffect | None:
    """Paired effect of a strategy over tasks and seeds; None where nothing is paired.

    ``pairs`` is the result of :func:`paired` for one suite and adapter.
    """
    arm = pairs[(pairs["strategy"] == strategy) & pairs["difference"].notna()]
    if arm.empty:
        return None
    return paired_effect(
        arm, confidence=settings.confidence, resamples=settings.resamples, seed=settings.seed
    )


def compare(
    rows: pd.DataFrame,
    settings: Settings,
    split_by: Sequence[str] = (),
    *,
    average: bool = True,
    differences: bool = True,
) -> pd.DataFrame:
    """Summarise rows to one line per (suite, adapter, *split_by, task, strategy).

    Args:
        rows: ``suite, task, adapter, strategy, seed, value``, the columns of ``split_by`` and,
            where there are, ``metric``, ``n``, ``flag``, ``repeat_sd`` and ``repeats``.
        settings: interval level and resampling.
        split_by: columns that separate one comparison from the next.
        average: add a line ``Average`` over tasks where there are several. It uses the seeds that
            all tasks have; its difference is the paired effect over tasks and seeds, while that of
            one task is Student's t interval over its seeds.
        differences: compare strategies with the baseline.
    """
    lines: list[dict[str, Any]] = []
    pairs = paired(rows, split_by) if differences else rows.assign(difference=math.nan)
    for key, group in _groups(pairs, ["suite", "adapter", *split_by]):
        tasks = sorted(group["task"].unique())
        for task in tasks:
            lines += _lines(group[group["task"] == task], {**key, "task": task}, settings)
        if average and len(tasks) > 1:
            lines += _average(group, key, settings)
    columns = ["suite", "adapter", *split_by, "task", "metric", "strategy", "kind"]
    columns += ["mean", "low", "high", "n_values", "n_seeds", "n_test", "flagged"]
    columns += ["difference", "difference_low", "difference_high", "n_pairs", "p", "source"]
    if "repeat_sd" in rows and rows["repeat_sd"].notna().any():
        columns += ["repeat_sd", "repeats"]
    tidy = pd.DataFrame(lines, columns=columns)
    # Counts stay whole numbers in the CSV where some lines have none.
    counts = ("n_values", "n_seeds", "n_test", "flagged", "n_pairs", "repeats")
    return tidy.astype({name: "Int64" for name in counts if name in tidy})


def _groups(rows: pd.DataFrame, by: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    grouped: dict[tuple[Any, ...], pd.DataFrame] = {}
    for key, group in rows.groupby(by):
        grouped[tuple(key)] = group
    orders = [ranked(column, list(rows[column])) for column in by]
    for key in sorted(grouped, key=lambda k: [o.index(v) for o, v in zip(orders, k, strict=True)]):
        yield dict(zip(by, key, strict=True)), grouped[key]


def _lines(rows: pd.DataFrame, key: dict[str, Any], settings: Settings) -> list[dict[str, Any]]:
    lines = []
    for strategy in ranked("strategy", list(rows["strategy"])):
        arm = rows[rows["strategy"] == strategy]
        line = {**key, **_describe(arm, settings), "strategy": strategy}
        gaps = arm["difference"].dropna()
        if strategy != BASELINE and len(gaps):
            gap = mean_interval(gaps, settings.confidence)
            line |= _gap(gap.mean, gap.low, gap.high, gap.n)
        lines.append(line)
    return lines


def _average(rows: pd.DataFrame, key: dict[str, Any], settings: Settings) -> list[dict[str, Any]]:
    lines = []
    n_tasks = rows["task"].nunique()
    for strategy in ranked("strategy", list(rows["strategy"])):
        arm = rows[rows["strategy"] == strategy]
        complete = arm.groupby("seed").filter(lambda part: len(part) == n_tasks)
        if complete.empty:
            continue
        per_seed = complete.groupby("seed", as_index=False)["value"].mean()
        line = {**key, "task": AVERAGE, **_describe(complete, settings), "strategy": strategy}
        interval = mean_interval(per_seed["value"], settings.confidence)
        line |= {"mean": interval.mean, "low": interval.low, "high": interval.high}
        line["n_values"] = interval.n
        found = effect(rows, strategy, settings) if strategy != BASELINE else None
        if found:
            line |= _gap(found.mean, found.low, found.high, found.n_pairs) | {"p": found.p}
        lines.append(line)
    return lines


def _describe(arm: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    interval = mean_interval(arm["value"], settings.confidence)
    seeds = {s for label in arm["seed"] for s in (label if isinstance(label, tuple) else (label,))}
    metrics = sorted(set(arm.get("metric", [])))
    per_task = arm.drop_duplicates("task")
    return {
        "kind": "measured",
        "metric": "mean of " * (len(metrics) > 1) + ", ".join(metrics),
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n_values": interval.n,
        "n_seeds": len(seeds),
        "n_test": int(per_task["n"].sum()) if "n" in arm else math.nan,
        "flagged": int((arm["flag"].fillna("") != "").sum()) if "flag" in arm else 0,
        "source": "this run",
        "repeat_sd": arm["repeat_sd"].mean() if "repeat_sd" in arm else math.nan,
        "repeats": arm["repeats"].max() if "repeats" in arm else math.nan,
    }


def _gap(mean: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"difference": mean, "difference_low": low, "difference_high": high, "n_pairs": n}


def overall(tidy: pd.DataFrame, split_by: Sequence[str] = ()) -> pd.DataFrame:
    """Lines over all tasks: the averages, and of what has one task only, that task."""
    several = tidy.groupby(["suite", "adapter", *split_by])["task"].transform("nunique") > 1
    return tidy[~several | (tidy["task"] == AVERAGE)]
