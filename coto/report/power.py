"""How many seeds would decide a claim that today's do not.

A forecast, not a promise: it takes today's estimate for the truth and the normal approximation for
the bootstrap.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from coto.report.resampling import Array
from coto.report.statistics import SIGNIFICANCE

MOST_SEEDS = 999


@dataclass(frozen=True)
class Components:
    """Variances of differences: between tasks, between seeds, and what neither explains."""

    task: float
    seed: float
    residual: float


@dataclass(frozen=True)
class Seeds:
    """How many seeds would decide; None with the reason where no number can be told."""

    count: int | None
    reason: str = ""


def components(grid: Array) -> Components:
    """Variance components of a crossed two-way layout with one value per cell.

    The method of moments (Searle, Casella and McCulloch, Variance Components, 1992, Section 4.3);
    negative estimates become 0. Of one task, all variance counts as between seeds.

    Args:
        grid: differences (tasks, seeds), complete, of two seeds or more.
    """
    n_tasks, n_seeds = grid.shape
    if n_tasks == 1:
        return Components(0.0, float(grid.var(ddof=1)), 0.0)
    rows, columns, mean = grid.mean(1, keepdims=True), grid.mean(0, keepdims=True), grid.mean()
    residual = ((grid - rows - columns + mean) ** 2).sum() / ((n_tasks - 1) * (n_seeds - 1))
    between_tasks = n_seeds * rows.var(ddof=1)
    between_seeds = n_tasks * columns.var(ddof=1)
    return Components(
        task=max(0.0, float(between_tasks - residual) / n_seeds),
        seed=max(0.0, float(between_seeds - residual) / n_tasks),
        residual=float(residual),
    )


def seeds_to_decide(
    grid: Array,
    *,
    margin: float,
    direction: Literal[1, -1] = 1,
    confidence: float = 0.95,
    tests: int = 1,
    in_pairs: bool = False,
) -> Seeds:
    """The smallest number of seeds, of the same tasks, that would decide an undecided claim.

    Decided: the interval excludes 0 on the side of today's estimate, or an effect as large as the
    margin, as :func:`coto.report.statistics.judge` reads it. Its half-width is z times the root of
    task / T + seed / S + residual / (T S) with T tasks and S seeds. *Supported* also needs p below
    0.05 / ``tests``, the first step of Holm's procedure: S T pairs must be able to give it, and the
    interval must exclude 0 at that level, too.

    Args:
        grid: differences (tasks, seeds), NaN where a pair is missing; seeds that some task lacks
            are left out.
        margin: smallest effect of interest, above 0.
        direction: of the claim.
        confidence: level of the interval.
        tests: in the claim's family.
        in_pairs: the columns are pairs of seeds, of which S seeds give S (S - 1) / 2. They count
            as independent, as the interval and p count them.
    """
    complete = grid[:, np.isfinite(grid).all(0)]
    n_tasks, n_columns = complete.shape
    what = "pairs of seeds" if in_pairs else "seeds"
    if n_columns < 2:
        return Seeds(None, f"fewer than two {what} that all tasks have")
    if not complete.any():
        return Seeds(None, "the arms do not differ in any pair")
    spread = components(complete)
    mean = direction * float(complete.mean())
    level = SIGNIFICANCE / tests
    z = float(stats.norm.isf((1 - confidence) / 2))
    z_supported = max(z, float(stats.norm.isf(level / 2)))

    def decided(columns: float) -> bool:
        error = math.sqrt(
            spread.task / n_tasks + (spread.seed + spread.residual / n_tasks) / columns
        )
        supported = mean - z_supported * error > 0 and 2.0 ** (1 - columns * n_tasks) < level
        return supported or mean + z * error < margin

    if not decided(math.inf):
        return Seeds(None, "the spread between tasks alone is too wide: it takes more tasks")
    for seeds in range(2, MOST_SEEDS + 1):
        columns = seeds * (seeds - 1) // 2 if in_pairs else seeds
        # Today's number has not decided, whatever the approximation says of it.
        if columns > grid.shape[1] and decided(columns):
            return Seeds(seeds)
    return Seeds(None, f"more than {MOST_SEEDS}")
