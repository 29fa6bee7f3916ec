"""Arms side by side: means with intervals, paired differences, and their display."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from coto.report.quantities import BASELINE, ranked
from coto.report.settings import Settings
from coto.report.statistics import PairedEffect, mean_interval, paired_effect

AVERAGE = "Average"
FLAG = " †"
UNTRAINED = "no training"


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
    rows: pd.DataFrame, settings: Settings, split_by: Sequence[str] = (), *, average: bool = True
) -> pd.DataFrame:
    """Summarise rows to one line per (suite, adapter, *split_by, task, strategy).

    Args:
        rows: ``suite, task, adapter, strategy, seed, value``, the columns of ``split_by`` and,
            where there are, ``metric``, ``n`` and ``flag``.
        settings: interval level and resampling.
        split_by: columns that separate one comparison from the next.
        average: add a line ``Average`` over tasks where there are several. It uses the seeds that
            all tasks have; its difference is the paired effect over tasks and seeds, while that of
            one task is Student's t interval over its seeds.
    """
    lines: list[dict[str, Any]] = []
    for key, group in _groups(paired(rows, split_by), ["suite", "adapter", *split_by]):
        tasks = sorted(group["task"].unique())
        for task in tasks:
            lines += _lines(group[group["task"] == task], {**key, "task": task}, settings)
        if average and len(tasks) > 1:
            lines += _average(group, key, settings)
    columns = ["suite", "adapter", *split_by, "task", "metric", "strategy", "kind"]
    columns += ["mean", "low", "high", "n_values", "n_seeds", "n_test", "flagged"]
    columns += ["difference", "difference_low", "difference_high", "n_pairs", "p", "source"]
    tidy = pd.DataFrame(lines, columns=columns)
    # Counts stay whole numbers in the CSV where some lines have none.
    return tidy.astype(
        dict.fromkeys(("n_values", "n_seeds", "n_test", "flagged", "n_pairs"), "Int64")
    )


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
        "metric": metrics[0] if len(metrics) == 1 else "mean of " + ", ".join(metrics),
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n_values": interval.n,
        "n_seeds": len(seeds),
        "n_test": int(per_task["n"].sum()) if "n" in arm else math.nan,
        "flagged": int((arm["flag"].fillna("") != "").sum()) if "flag" in arm else 0,
        "source": "this run",
    }


def _gap(mean: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"difference": mean, "difference_low": low, "difference_high": high, "n_pairs": n}


def cell(
    mean: float,
    decimals: int,
    bounds: tuple[float, float] = (math.nan, math.nan),
    *,
    signed: bool = False,
) -> str:
    """A fraction as percent with its interval: ``82.1 [80.0, 84.2]``; a bare mean without one."""
    if not math.isfinite(mean):
        return ""
    form = f"{'+' if signed else ''}z.{decimals}f"
    text = format(100 * mean, form)
    if math.isfinite(bounds[0]):
        text += f" [{format(100 * bounds[0], form)}, {format(100 * bounds[1], form)}]"
    return text


def side_by_side(tidy: pd.DataFrame, index: dict[str, str], decimals: int) -> pd.DataFrame:
    """Text of a comparison: one line per place, one column per strategy, then the differences.

    Lines of kind ``baseline`` are no strategies: their numbers stand in a column of their own.

    Args:
        tidy: lines of ``compare``.
        index: columns that identify a line, with their headings. ``suite`` is shown only where
            there are several.
        decimals: of percentages.
    """
    if tidy["suite"].nunique() > 1:
        index = {"suite": "suite", **index}
    untrained = tidy["kind"] == "baseline"
    strategies = ranked("strategy", list(tidy.loc[~untrained, "strategy"]))
    lines = []
    for _, place in tidy.groupby(["suite", *(c for c in index if c != "suite")], sort=False):
        first = place.iloc[0]
        line: dict[str, str] = {heading: str(first[column]) for column, heading in index.items()}
        measured = first["kind"] == "measured"
        line["seeds"] = str(int(place["n_seeds"].min())) if measured else ""
        for _, arm in place.iterrows():
            text = cell(arm["mean"], decimals, (arm["low"], arm["high"]))
            column = UNTRAINED if arm["kind"] == "baseline" else arm["strategy"]
            line[column] = text + (FLAG if arm["flagged"] else "")
            if column not in (BASELINE, UNTRAINED):
                line[f"{arm['strategy']} − {BASELINE}"] = cell(
                    arm["difference"],
                    decimals,
                    (arm["difference_low"], arm["difference_high"]),
                    signed=True,
                )
        line["source"] = first["source"]
        lines.append(line)
    columns = [*index.values(), "seeds", *([UNTRAINED] if untrained.any() else []), *strategies]
    columns += [f"{name} − {BASELINE}" for name in strategies if name != BASELINE]
    return pd.DataFrame(lines, columns=[*columns, "source"]).fillna("")


def overall(tidy: pd.DataFrame) -> pd.DataFrame:
    """Lines over all tasks: the averages, and of what has one task only, that task."""
    several = tidy.groupby(["suite", "adapter"])["task"].transform("nunique") > 1
    return tidy[~several | (tidy["task"] == AVERAGE)]
