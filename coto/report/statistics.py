"""The test of one effect, and what it says of a claim: tasks are fixed, seeds are the unit.

*Would other seeds, of these tasks, give the same?* A seed fixes initialisation, data order and
masks of all its runs, so that what they have in common is no second piece of evidence: the
differences of a seed are averaged over tasks (and adapter kinds), and the seeds' values are tested
by Student's one-sample t. Two questions are asked of the same values, each by two one-sided tests:
does the effect differ from 0, and does it differ from the smallest effect of interest, the margin?
Every one-sided test has half of the level, so that before correction for many tests the two-sided
interval shows both answers. ``docs/verdicts.md`` has the error rates of all this in simulation.

Merges of two seeds share seeds with each other, see :func:`estimate`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from coto.report.settings import LEAST_SEEDS

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Label = Literal["supported", "not supported", "inconclusive", "cannot be tested here"]
CANNOT: Label = "cannot be tested here"

# A spread below this share of the largest value is that of equal numbers, in floating point.
_NO_SPREAD = 1e-9
# Up to this many seeds all 2**n sign patterns are tried; above, `resamples` random ones.
EXACT_SEEDS = 14


@dataclass(frozen=True)
class Interval:
    """A mean of ``n`` values with its interval; the bounds are NaN where so few give none."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error.

    Attributes:
        mean: of the units, in the unit of what was measured.
        error: standard error of the mean; NaN of fewer than ``LEAST_SEEDS`` units.
        df: degrees of freedom.
        n_units: independent values that the mean is taken of: seeds, repeats or items.
        n_seeds: distinct seeds behind them; of two seeds, the one merge is one unit.
        n_tasks: what each unit is an average of.
        n_values: single values, such as (task, seed) pairs.
        units: the values, where they are seeds or repeats.
    """

    mean: float
    error: float
    df: int
    n_units: int
    n_seeds: int
    n_tasks: int
    n_values: int
    units: tuple[float, ...] = ()

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Student's interval; NaN of too few units."""
        half = self.error * float(stats.t.isf((1 - confidence) / 2, max(self.df, 1)))
        return self.mean - half, self.mean + half

    def p(self, against: float = 0.0) -> float:
        """Two-sided p of Student's t test against a mean; 1 of too few units or without spread."""
        return float(p_values(self.mean, self.error, self.df, against))


@dataclass(frozen=True)
class Verdict:
    """What the data say about a claim, and why."""

    label: Label
    reason: str


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean and Student's interval of one or more finite values, else ValueError.

    Fewer than ``LEAST_SEEDS`` have no interval: that of two is 13 standard errors wide, each side.
    """
    x = _finite(values)
    low, high = _estimate(x, x.size, 1, x.size).interval(confidence)
    return Interval(float(x.mean()), low, high, x.size)


def estimate(rows: pd.DataFrame, column: str = "difference") -> Estimate:
    """Mean over tasks and seeds of a column; the seeds that lack no task are the units.

    ``rows`` have ``task``, ``seed`` and the column, every (task, seed) once. A seed that is a tuple
    of numbers stands for runs that were mixed, such as a merge of two seeds. Mixtures that share a
    seed are not independent; a seed's value is then the jackknife's pseudo-value, n U - (n - 1) U',
    where U is the mean of all mixtures of n seeds and U' that of those without the seed. Their mean
    is U, and what a seed adds to each of its mixtures is given back exactly; the variance of what
    belongs to single mixtures is overestimated (Efron and Stein, The jackknife estimate of
    variance, 1981), so that the test errs on the side of saying nothing. Disjoint pairs would
    leave n/2 values instead of n. Where some mixture of the seeds is missing, disjoint mixtures are
    taken in their order, each as one value.

    Where no seed has a value of every task, the mean over the tasks' means, without an error.

    Raises:
        ValueError: no rows, a value that is not finite, or a (task, seed) there twice.
    """
    grid, labels = _grid(rows, column)
    complete = np.isfinite(grid).all(0)
    if not complete.any():
        mean = float(np.nanmean(grid, 1).mean())
        return Estimate(mean, math.nan, 0, 0, _distinct(labels), len(grid), len(rows))
    used = [labels[place] for place in np.flatnonzero(complete)]
    units = grid[:, complete].mean(0)
    if isinstance(used[0], tuple):
        units = pseudo_values(units, used)
    return _estimate(units, _distinct(used), len(grid), grid[:, complete].size)


def _estimate(units: Array, n_seeds: int, n_tasks: int, n_values: int) -> Estimate:
    error = float(standard_error(units)) if units.size >= LEAST_SEEDS else math.nan
    counts = units.size, n_seeds, n_tasks, n_values
    return Estimate(
        float(units.mean()), error, units.size - 1, *counts, units=tuple(units.tolist())
    )


def _grid(rows: pd.DataFrame, column: str) -> tuple[Array, list[Any]]:
    """Values (tasks, seeds), NaN where there is none, and the seeds' labels, both sorted."""
    values = _finite(rows[column])
    names, labels = sorted(set(rows["task"])), sorted(set(rows["seed"]))
    tasks = {name: i for i, name in enumerate(names)}
    seeds = {label: i for i, label in enumerate(labels)}
    cells = [(tasks[t], seeds[s]) for t, s in zip(rows["task"], rows["seed"], strict=True)]
    if len(set(cells)) < len(cells):
        raise ValueError("rows: expected every (task, seed) once")
    grid = np.full((len(names), len(labels)), math.nan)
    grid[tuple(np.transpose(cells))] = values
    return grid, labels


def pseudo_values(values: Array, mixtures: Sequence[tuple[int, ...]]) -> Array:
    """Values of mixtures (..., mixtures) as one per seed (..., seeds), see :func:`estimate`."""
    seeds, size = sorted(set(chain(*mixtures))), len(mixtures[0])
    n = len(seeds)
    if n > size and len(mixtures) == math.comb(n, size):
        without = [[seed not in mixture for mixture in mixtures] for seed in seeds]
        rest = np.stack([values[..., chosen].mean(-1) for chosen in without], axis=-1)
        return n * values.mean(-1, keepdims=True) - (n - 1) * rest
    used: set[int] = set()
    disjoint = []
    for place, mixture in enumerate(mixtures):
        if used.isdisjoint(mixture):
            disjoint.append(place)
            used |= set(mixture)
    return values[..., disjoint]


def standard_error(values: Array) -> Array:
    """Of means over the last axis; exactly 0 where all values are equal."""
    error = values.std(-1, ddof=1) / math.sqrt(values.shape[-1])
    return np.where(np.ptp(values, -1) <= _NO_SPREAD * np.abs(values).max(-1), 0.0, error)


def p_values(mean: ArrayLike, error: ArrayLike, df: int, against: ArrayLike = 0.0) -> Array:
    """Two-sided p of t tests of means against numbers; 1 where the error is 0 or NaN.

    Values without any spread are those of too coarse a measure, not of a certain effect.
    """
    error = np.asarray(error, dtype=np.float64)
    known = error > 0
    distance = np.abs(np.subtract(mean, against)) / np.where(known, error, 1.0)
    return np.where(known, 2 * stats.t.sf(distance, max(df, 1)), 1.0)


def holm(p: ArrayLike) -> Array:
    """p values (..., m) adjusted for their number: the k-th smallest times m - k + 1, 1 at most.

    Monotone; bounds the chance of any false claim in the family, whatever the dependence between
    its tests. (Holm, 1979.)
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, axis=-1, kind="stable")
    stepped = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(stepped, axis=-1))
    return np.take_along_axis(adjusted, np.argsort(order, axis=-1, kind="stable"), -1)


def decide(
    low: ArrayLike, p: ArrayLike, p_margin: ArrayLike, mean: ArrayLike, margin: float, level: float
) -> tuple[Flags, Flags]:
    """Whether effects in the claimed direction are supported, and whether they are not supported.

    ``low`` is the interval's lower end; ``p`` tests against 0, ``p_margin`` against the margin,
    both corrected. An interval that lies wholly on the claimed side of 0 is never "not supported".
    """
    ahead = np.asarray(low) > 0
    supported = ahead & (np.asarray(p) < level)
    unsupported = ~ahead & (np.asarray(p_margin) < level) & (np.asarray(mean) < margin)
    return supported, unsupported


def judge(
    found: Estimate,
    *,
    margin: float,
    direction: Literal[1, -1] = 1,
    confidence: float = 0.95,
    unit: str = "seeds",
    tests: int = 1,
    corrected: tuple[float, float] | None = None,
) -> Verdict:
    """Decide on a claim that the effect has the sign of ``direction``.

    Args:
        found: the effect.
        margin: smallest effect of interest, above 0, in the effect's unit.
        direction: the claimed sign.
        confidence: one minus the level of all tests.
        unit: what the effect is a mean of.
        tests: of the claim's family.
        corrected: p against 0 and p against the margin, corrected for the family; None: as they
            are.

    Raises:
        ValueError: the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin: got {margin}, expected a number above 0")
    if found.n_units < LEAST_SEEDS:
        what, has = unit, found.n_seeds
        if has >= LEAST_SEEDS:
            what, has = f"{unit} that all tasks have, or disjoint mixtures of them", found.n_units
        return Verdict("inconclusive", f"needs at least {LEAST_SEEDS} {what}, has {has}")
    if found.error == 0:
        same = "do not differ at all: did they train?" if found.mean == 0 else "differ by the same"
        return Verdict("inconclusive", f"no spread: in all {unit} the arms {same}")
    low, high = sorted(direction * end for end in found.interval(confidence))
    p, p_margin = corrected or (found.p(), found.p(direction * margin))
    level = 1 - confidence
    mean = direction * found.mean
    supported, unsupported = decide(low, p, p_margin, mean, margin, level)
    if supported:
        small = " (but smaller than the margin)" if high < margin else ""
        return Verdict("supported", f"the interval lies on the claimed side of 0{small}")
    if unsupported:
        if high < 0:
            reason = "the interval lies on the other side of 0"
        elif low > -margin:
            reason = "equivalent: the interval excludes effects as large as the margin either way"
        else:
            reason = "the interval excludes an effect as large as the margin"
        return Verdict("not supported", reason)
    after = f" after Holm's correction for {tests} tests" if tests > 1 else ""
    if low > 0:
        return Verdict("inconclusive", f"p = {p:.3f}{after} is not below {level:.2g}")
    if high < margin:
        reason = f"p = {p_margin:.3f} against the margin{after} is not below {level:.2g}"
        return Verdict("inconclusive", reason)
    return Verdict("inconclusive", "the interval holds both 0 and the margin")


def sign_flip(units: ArrayLike, *, resamples: int, seed: int) -> float:
    """Two-sided p under the null that the arms could change names, all tasks of a seed together.

    A check beside the t test that assumes no distribution. Of n seeds it cannot go below
    2 ** (1 - n): below 0.05 from six on. NaN of fewer than two values that are not 0. Of merges of
    two seeds, whose arms are never mixed, it flips pseudo-values, which is an approximation.
    """
    values = np.asarray(units, dtype=np.float64)
    values = values[values != 0]  # what does not differ is the same under either name
    if values.size < 2:
        return math.nan
    values = values / np.abs(values).max()
    result = stats.permutation_test(
        (values,),
        # Rounded, because patterns with equal sums must tie whatever the order of summation: a sum
        # near zero would otherwise be told apart from its equals by its last bits.
        lambda x, axis=-1: np.round(np.sum(x, axis=axis), 12),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_SEEDS if values.size <= EXACT_SEEDS else resamples,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _distinct(labels: Sequence[Any]) -> int:
    """Distinct seeds; a mixture of seeds counts as those that it is made of."""
    return len(set(chain.from_iterable(s if isinstance(s, tuple) else (s,) for s in labels)))


def _finite(values: ArrayLike) -> Array:
    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"values: expected one or more finite numbers, got {x.tolist()}")
    return x
