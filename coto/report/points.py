"""Means over seeds of many points, such as those of a curve, for the CSV of a table.

The lines of single tasks of :func:`coto.report.comparison.compare`, computed together: curves of
hundreds of points cost milliseconds instead of seconds. There are no averages over tasks.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from coto.report.comparison import paired
from coto.report.quantities import BASELINE
from coto.report.settings import Settings


def points(rows: pd.DataFrame, settings: Settings, split_by: Sequence[str]) -> pd.DataFrame:
    """Summarise rows to one line per (suite, adapter, task, strategy, *split_by).

    Args:
        rows: ``suite, task, adapter, strategy, seed, value`` and the columns of `split_by`. Where
            there is an ``error``, the standard error of a value, that of the mean is added.
        settings: interval level.
        split_by: columns that tell points apart.

    Returns:
        Those columns with ``kind``, ``mean``, ``low``, ``high``, ``n_seeds``, ``difference`` (from
        the baseline, paired by seed), ``difference_low``, ``difference_high``, ``n_pairs``.
    """
    place = ["suite", "adapter", "task", "strategy", *split_by]
    groups = paired(rows, split_by).groupby(place, sort=False)
    lines = groups.size().rename("n_seeds").to_frame()
    for name, column, count in (
        ("mean", "value", "n_seeds"),
        ("difference", "difference", "n_pairs"),
    ):
        of = groups[column].agg(["mean", "std", "count"])
        half = _half_width(of["std"], of["count"], settings.confidence)
        prefix = "" if name == "mean" else f"{name}_"
        lines[name], lines[count] = of["mean"], of["count"]
        lines[f"{prefix}low"], lines[f"{prefix}high"] = of["mean"] - half, of["mean"] + half
    if "error" in rows:
        lines["error"] = groups["error"].agg(lambda e: float(np.sqrt((e**2).sum()) / len(e)))
    lines = lines.reset_index().assign(kind="measured", source="this run")
    gap = ["difference", "difference_low", "difference_high", "n_pairs"]
    lines[gap] = lines[gap].astype("Float64").mask(lines["strategy"] == BASELINE)
    counts = [name for name in ("n_seeds", "n_pairs", "layer") if name in lines]
    return lines.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(gap[:-1], "float64"))


def _half_width(spread: pd.Series, count: pd.Series, confidence: float) -> pd.Series:
    """Half of Student's t interval of a mean; NaN of a single value."""
    quantile = stats.t.ppf((1 + confidence) / 2, (count - 1).clip(lower=1))
    return quantile * spread / np.sqrt(count)
