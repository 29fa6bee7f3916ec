"""Arms side by side: means with intervals and paired differences."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from coto.report.quantities import BASELINE, ranked
from coto.report.settings import LEAST_SEEDS, Settings
from coto.report.statistics import Estimate, estimate

AVERAGE = "Average"


def paired(rows: pd.DataFrame, split_by: Sequence[str] = ()) -> pd.DataFrame:
    """Add ``difference``: the value minus the baseline's for the same task and seed.

    NaN where the baseline lacks that pair. ``rows`` must hold one value per suite, adapter,
    ``split_by``, task, strategy and seed.
    """
    place = ["suite", "adapter", *split_by, "task", "seed"]
    base = rows.loc[rows["strategy"] == BASELINE, [*place, "value"]]
    joined = rows.merge(base.rename(columns={"value": "difference"}), on=place, how="left")
    return joined.assign(difference=joined["value"] - joined["difference"])


def effect(pairs: pd.DataFrame) -> Estimate | None:
    """Mean of one arm's differences of :func:`paired` over tasks and seeds; None without any."""
    arm = pairs[pairs["difference"].notna()]
    return None if arm.empty else estimate(arm)


def compare(
    rows: pd.DataFrame,
    settings: Settings,
    split_by: Sequence[str] = (),
    *,
    average: bool = True,
    differences: bool = True,
) -> pd.DataFrame:
    """Summarise rows to one line per (suite, adapter, *split_by, task, strategy).

    ``rows`` have ``suite, task, adapter, strategy, seed, value``, the columns of ``split_by`` and,
    where there are, ``metric``, ``n``, ``flag``, ``repeat_sd`` and ``repeats``. The line
    ``Average`` over several tasks is of the seeds that all of them have. Intervals, of means and of
    differences, are Student's over seeds (:func:`coto.report.statistics.estimate`).
    """
    lines: list[dict[str, Any]] = []
    pairs = paired(rows, split_by) if differences else rows.assign(difference=math.nan)
    for key, group in _groups(pairs, ["suite", "adapter", *split_by]):
        tasks = sorted(group["task"].unique())
        for task in tasks:
            for arm, part in _groups(group[group["task"] == task], ["strategy"]):
                lines.append({**key, "task": task, **arm, **_of_task(part, settings)})
        for arm, part in _groups(group, ["strategy"]) if average and len(tasks) > 1 else ():
            complete = part[part.groupby("seed")["task"].transform("size") == len(tasks)]
            if len(complete):
                line = _over_tasks(part, complete, settings)
                lines.append({**key, "task": AVERAGE, **arm, **line})
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
    """The groups with their keys, in the order in which they are shown."""
    orders = [ranked(column, list(rows[column])) for column in by]
    groups: dict[tuple[Any, ...], pd.DataFrame] = {tuple(k): part for k, part in rows.groupby(by)}
    for key in sorted(groups, key=lambda k: [o.index(v) for o, v in zip(orders, k, strict=True)]):
        yield dict(zip(by, key, strict=True)), groups[key]


def _of_task(arm: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    return _describe(arm, arm, settings) | _gap(arm, settings)


def _over_tasks(arm: pd.DataFrame, complete: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """The average of the seeds that all tasks have."""
    gap = _gap(arm, settings)
    return _describe(arm, complete, settings) | gap


def _describe(arm: pd.DataFrame, complete: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """The mean of the complete seeds, and what is known of all rows of the arm."""
    found = estimate(complete, "value")
    low, high = found.interval(settings.confidence)
    metrics = sorted(set(arm.get("metric", [])))
    return {
        **{"kind": "measured", "source": "this run"},
        "metric": "mean of " * (len(metrics) > 1) + ", ".join(metrics),
        **{"mean": found.mean, "low": low, "high": high},
        "n_values": complete["seed"].nunique(),
        "n_seeds": found.n_seeds,
        "n_test": int(arm.drop_duplicates("task")["n"].sum()) if "n" in arm else math.nan,
        "flagged": int((arm["flag"].fillna("") != "").sum()) if "flag" in arm else 0,
        "repeat_sd": arm["repeat_sd"].mean() if "repeat_sd" in arm else math.nan,
        "repeats": arm["repeats"].max() if "repeats" in arm else math.nan,
    }


def _gap(arm: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """The difference to the baseline; nothing for the baseline and without any pair."""
    found = effect(arm) if arm["strategy"].iloc[0] != BASELINE else None
    if found is None:
        return {}
    low, high = found.interval(settings.confidence)
    bounds = {"difference_low": low, "difference_high": high}
    # That of a single task is one of many: its p would need a correction.
    p = {"p": found.p()} if arm["task"].nunique() > 1 else {}
    return {"difference": found.mean, **bounds, "n_pairs": found.n_values, **p}


def overall(tidy: pd.DataFrame, split_by: Sequence[str] = ()) -> pd.DataFrame:
    """Lines over all tasks: the averages, and of what has one task only, that task."""
    several = tidy.groupby(["suite", "adapter", *split_by])["task"].transform("nunique") > 1
    return tidy[~several | (tidy["task"] == AVERAGE)]


def points(rows: pd.DataFrame, settings: Settings, split_by: Sequence[str]) -> pd.DataFrame:
    """Summarise rows to one line per (suite, adapter, task, strategy, *split_by).

    As :func:`compare`, faster, with fewer columns and without averages over tasks. Where the rows
    have an ``error``, the standard error of a value, that of the mean is added.
    """
    place = ["suite", "adapter", "task", "strategy", *split_by]
    groups = paired(rows, split_by).groupby(place, sort=False)
    lines = groups.size().rename("n_seeds").to_frame()
    for column, mean, of_bound, count in (
        ("value", "mean", "", "n_seeds"),
        ("difference", "difference", "difference_", "n_pairs"),
    ):
        of = groups[column].agg(["mean", "std", "count"])
        # Student's t interval; NaN of too few values.
        quantile = stats.t.ppf((1 + settings.confidence) / 2, (of["count"] - 1).clip(lower=1))
        half = (quantile * of["std"] / np.sqrt(of["count"])).where(of["count"] >= LEAST_SEEDS)
        lines[mean], lines[count] = of["mean"], of["count"]
        lines[f"{of_bound}low"], lines[f"{of_bound}high"] = of["mean"] - half, of["mean"] + half
    if "error" in rows:
        lines["error"] = groups["error"].agg(lambda e: float(np.sqrt((e**2).sum()) / len(e)))
    lines = lines.reset_index().assign(kind="measured", source="this run")
    gap = ["difference", "difference_low", "difference_high", "n_pairs"]
    lines[gap] = lines[gap].astype("Float64").mask(lines["strategy"] == BASELINE)
    counts = [name for name in ("n_seeds", "n_pairs", "layer") if name in lines]
    return lines.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(gap[:-1], "float64"))
