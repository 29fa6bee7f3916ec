"""Bootstrap and permutation of paired differences, by scipy.

Differences of (task, seed) pairs stand in a grid (tasks, seeds), NaN where a pair is missing.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
# From grids (..., tasks, seeds), missing cells 0, and which cells are there, to values (...).
Statistic = Callable[[Array, NDArray[np.bool_]], Array]

# Up to this many pairs all 2**n sign patterns are tried; above, `resamples` random ones.
EXACT_PAIRS = 14
# Numbers that one batch of random sign patterns holds.
_BATCH = 2**21


def mean_over_tasks(values: Array, present: NDArray[np.bool_]) -> Array:
    """Mean of the tasks' means; a task of which no seed was drawn has no say."""
    count = present.sum(-1)
    means = values.sum(-1) / np.maximum(count, 1)
    drawn = (count > 0).sum(-1)
    return means.sum(-1) / np.maximum(drawn, 1)


def crossed_bootstrap(
    grid: Array, statistic: Statistic, *, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of a statistic over resampled rows (tasks) and columns (seeds).

    Every task gets the same resampled seeds; of one task, its seeds are resampled alone. A single
    value gives NaN, equal values an interval of no width.
    """
    n_tasks, n_seeds = grid.shape
    present = np.isfinite(grid)
    if present.sum() == 1:
        return math.nan, math.nan
    filled = np.where(present, grid, 0.0)
    whole = statistic(filled, present)
    if np.ptp(grid[present]) == 0:
        return float(whole), float(whole)
    rng = np.random.default_rng(seed)

    def crossed(tasks: NDArray[np.int_], axis: int = -1) -> Array:
        tasks = np.moveaxis(tasks, axis, -1)
        # One draw of seeds for all tasks.
        at = (tasks[..., None], rng.integers(n_seeds, size=(*tasks.shape[:-1], 1, n_seeds)))
        found = statistic(filled[at], present[at])
        return np.where(present[at].any((-2, -1)), found, whole)

    def alone(values: Array, axis: int = -1) -> Array:
        rows = np.moveaxis(values, axis, -1)[..., None, :]
        return statistic(rows, np.ones(rows.shape, dtype=bool))

    result = stats.bootstrap(
        (grid[present] if n_tasks == 1 else np.arange(n_tasks),),
        alone if n_tasks == 1 else crossed,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        vectorized=True,
        batch=1000,
        rng=rng,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def sign_flip(weighted: Array, *, resamples: int, seed: int) -> float:
    """Two-sided p under the null that the two arms of every pair could change names.

    Args:
        weighted: differences (n,), times their weight in the mean.
        resamples: random sign patterns where the differences are too many to try them all.
        seed: of the patterns.
    """
    # What does not differ is the same under either name.
    values = weighted[weighted != 0]
    if values.size < 2:
        return 1.0
    values = values / np.abs(values).max()
    result = stats.permutation_test(
        (values,),
        # Rounded, because patterns with equal sums must tie whatever the order of summation: a sum
        # near zero would otherwise be told apart from its equals by its last bits.
        lambda x, axis=-1: np.round(np.sum(x, axis=axis), 12),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_PAIRS if values.size <= EXACT_PAIRS else resamples,
        batch=max(1, _BATCH // values.size),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def least_p(differing: int, resamples: int) -> float:
    """The smallest p that :func:`sign_flip` can give for so many differences that are not 0."""
    if differing <= EXACT_PAIRS:
        return min(1.0, 2.0 ** (1 - differing))
    return 2 / (resamples + 1)
