"""Standardised effects: how large a paired difference is beside its own spread."""

import math

import numpy as np
import pandas as pd

from coto.report.resampling import Array, crossed_bootstrap
from coto.report.statistics import Interval, differences_of

# A spread below it is that of equal numbers, summed in floating point.
_NO_SPREAD = 1e-12


def effect_size(
    pairs: pd.DataFrame, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """d_z, the mean of the paired differences over their standard deviation, with its interval.

    Corrected for small samples by Hedges' factor 1 - 3 / (4 (n - 1) - 1). The interval resamples
    tasks and seeds as that of the effect does. Resamples without any spread are infinite; a bound
    that they reach is NaN.

    Args:
        pairs: as :func:`coto.report.statistics.paired_effect` takes them.
        confidence: level of the interval.
        resamples: of the bootstrap.
        seed: of the resampling.

    Returns:
        The effect size; all NaN for fewer than three pairs, or where all differ by the same.
    """
    grid = differences_of(pairs)
    values = grid[np.isfinite(grid)]
    if values.size < 3 or values.std() < _NO_SPREAD:
        return Interval(math.nan, math.nan, math.nan, int(values.size))
    factor = 1 - 3 / (4 * (values.size - 1) - 1)
    with np.errstate(invalid="ignore"):  # scipy takes the spread of what may be infinite
        low, high = crossed_bootstrap(
            grid, _standardised, confidence=confidence, resamples=resamples, seed=seed
        )
    size = float(factor * values.mean() / values.std(ddof=1))
    low, high = (factor * x if math.isfinite(x) else math.nan for x in (low, high))
    return Interval(size, low, high, int(values.size))


def _standardised(values: Array, present: np.ndarray) -> Array:
    count = present.sum((-2, -1))
    mean = values.sum((-2, -1)) / np.maximum(count, 1)
    squares = (np.where(present, values - mean[..., None, None], 0) ** 2).sum((-2, -1))
    spread = np.sqrt(squares / np.maximum(count - 1, 1))
    flat = spread < _NO_SPREAD
    with np.errstate(invalid="ignore"):  # the sign of a mean of 0 times infinity
        infinite = np.where(mean == 0, 0.0, np.sign(mean) * np.inf)
    return np.where(flat, infinite, mean / np.where(flat, 1, spread))
