"""Claims of the paper and the test of one: effect, standardised effect, forecast of seeds."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from coto.registry import Registry
from coto.report import statistics
from coto.report.comparison import effect, paired
from coto.report.paper import Reported
from coto.report.quantities import STRATEGY
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.statistics import Array, Interval, differences_of

# Families of claims in the order in which claims are listed; others follow.
FAMILIES = (
    *("generalisation", "variants", "efficiency", "merging"),
    *("pruning", "stability", "balance", "rivals"),
)
# Stands for all adapter kinds of a suite together.
POOLED = "all"
# A spread below it is that of equal numbers, summed in floating point.
_NO_SPREAD = 1e-12
MOST_SEEDS = 999


@dataclass(frozen=True)
class Estimate:
    """What a test found. Effect and interval are in the quantity's unit, ``size`` is d_z.

    ``grid`` are the differences (tasks, seeds); with ``in_pairs``, its columns are pairs of seeds.
    A test over items has neither size nor grid.
    """

    effect: statistics.PairedEffect
    size: Interval | None = None
    grid: Array | None = None
    in_pairs: bool = False


def over_runs(rows: pd.DataFrame, settings: Settings) -> Estimate | None:
    """The test over tasks and seeds of one suite; None where no run is paired with another.

    Of several adapter kinds, every (task, adapter) is a unit of its own: it was trained on its own.
    """
    pairs = paired(rows)
    if pairs["adapter"].nunique() > 1:
        pairs = pairs.assign(task=pairs["task"] + "/" + pairs["adapter"])
    pairs = pairs[(pairs["strategy"] == STRATEGY) & pairs["difference"].notna()]
    result = effect(pairs, settings)
    if result is None:
        return None
    size = effect_size(pairs, **settings.resampling)
    return Estimate(result, size, differences_of(pairs), isinstance(pairs["seed"].iloc[0], tuple))


@dataclass(frozen=True)
class Claim:
    """A claim and its ``test``, in words: what is compared.

    The ``rows`` (a pandas query) of the CSV of ``table`` show it. ``quantity`` makes one value per
    (suite, task, adapter, strategy, seed) of the named ``records``, ``train`` and ``select``, and
    ``estimate`` tests those of one suite. CoTo should have the larger value where ``direction`` is
    1. ``margin``, the smallest effect of interest, is a multiple of the config's; ``fixed_margin``
    is in percent, for what is no accuracy. Suites of one ``kind`` can test it, or all; if
    ``apart``, on each adapter kind alone, too. Where ``optional`` says why it is not tested, a
    suite that cannot test it has no line, and neither has a run where no suite can, unless the
    claim is a main one or has a ``kind``. A ``sensitivity`` is a second look at another claim,
    exploratory and no part of its family's correction. ``caution`` is on the independence of pairs;
    ``listed_with`` is the family among whose claims it stands, if that is not its own.
    """

    name: str
    statement: str
    test: str
    table: str
    rows: str
    family: str
    quantity: Callable[[Frames], pd.DataFrame]
    records: tuple[str, ...] = ()
    estimate: Callable[[pd.DataFrame, Settings], Estimate | None] = over_runs
    reported: Mapping[str, tuple[Reported, ...]] = field(default_factory=dict)
    direction: Literal[1, -1] = 1
    margin: float = 1.0
    fixed_margin: float | None = None
    unit: str = "points"
    needs: str = "the stage that measures it"
    pairs: Literal["pairs", "items"] = "pairs"
    replicates: str = "seeds"
    role: Literal["main", "sensitivity"] = "main"
    caution: str = ""
    kind: str = ""
    apart: bool = True
    optional: str = ""
    listed_with: str = ""


CLAIMS: Registry[Claim] = Registry("claim")
"""Every claim that is tested; each is added in the room of its subject."""


def in_order(claims: Mapping[str, Claim]) -> list[Claim]:
    """Claims by family in the order of :data:`FAMILIES`, guests first, then as they were added."""
    names = [*FAMILIES, *(claim.family for claim in claims.values())]
    guests_first = sorted(claims.values(), key=lambda claim: not claim.listed_with)
    return sorted(guests_first, key=lambda claim: names.index(claim.listed_with or claim.family))


def by_operator(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of what one operator made."""
    return rows[rows["operator"] == name]


def effect_size(
    pairs: pd.DataFrame, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """d_z, the mean of the paired differences over their standard deviation, with its interval.

    Resampled as :func:`coto.report.statistics.paired_effect` does; with Hedges' factor for small
    samples. A bound that resamples without any spread reach is NaN; so is all for fewer than three
    pairs, or where all differ by the same.
    """
    grid = differences_of(pairs)
    values = grid[np.isfinite(grid)]
    if values.size < 3 or values.std() < _NO_SPREAD:
        return Interval(math.nan, math.nan, math.nan, int(values.size))
    factor = 1 - 3 / (4 * (values.size - 1) - 1)
    with np.errstate(invalid="ignore"):  # scipy takes the spread of what may be infinite
        low, high = statistics.crossed_bootstrap(
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

    The method of moments (Searle, Casella and McCulloch, Variance Components, 1992, Section 4.3) on
    complete differences (tasks, seeds >= 2); negative estimates become 0. Of one task, all variance
    counts as between seeds.
    """
    n_tasks, n_seeds = grid.shape
    if n_tasks == 1:
        return Components(0.0, float(grid.var(ddof=1)), 0.0)
    rows, columns, mean = grid.mean(1, keepdims=True), grid.mean(0, keepdims=True), grid.mean()
    residual = ((grid - rows - columns + mean) ** 2).sum() / ((n_tasks - 1) * (n_seeds - 1))
    task = float(n_seeds * rows.var(ddof=1) - residual) / n_seeds
    seed = float(n_tasks * columns.var(ddof=1) - residual) / n_tasks
    return Components(max(0.0, task), max(0.0, seed), float(residual))


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

    Decided as :func:`coto.report.statistics.judge` reads an interval of half-width z times the root
    of task / T + seed / S + residual / (T S) with T tasks and S seeds. *Supported* also needs that
    S T pairs can give p below 0.05 / ``tests``, the first step of Holm's procedure in the claim's
    family, and that the interval excludes 0 at that level. ``grid`` are differences (tasks, seeds);
    seeds that some task lacks are left out. With ``in_pairs``, its columns are pairs of seeds,
    S (S - 1) / 2 of S seeds, taken as independent.
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
    level = statistics.SIGNIFICANCE / tests
    z = float(stats.norm.isf((1 - confidence) / 2))
    z_supported = max(z, float(stats.norm.isf(level / 2)))

    def decided(columns: float) -> bool:
        over_seeds = (spread.seed + spread.residual / n_tasks) / columns
        error = math.sqrt(spread.task / n_tasks + over_seeds)
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
