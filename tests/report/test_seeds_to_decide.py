"""How many seeds would decide: ranges with known ends."""

import math

import numpy as np
import pytest
from scipy import stats

from coto.report.claim import LEAST_TO_FORECAST, MOST_SEEDS, Seeds, seeds_to_decide
from coto.report.statistics import Estimate


def of(mean: float, spread: float, n: int) -> Estimate:
    """What so many seeds with this standard deviation give."""
    return Estimate(mean, spread / math.sqrt(n), n - 1, n, n, 4, 4 * n)


def test_the_range_is_that_of_the_standard_deviation() -> None:
    found = seeds_to_decide(of(1.0, 2.0, 5), margin=0.5)
    ends = [2.0 * math.sqrt(4 / stats.chi2.ppf(q, 4)) for q in (0.9, 0.1)]
    for count, spread in zip((found.low, found.high), ends, strict=True):
        assert count is not None
        # So many have a power of 80 %; one fewer has less.
        for n, enough in ((count, True), (count - 1, False)):
            half = stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.8, n - 1)
            assert (half * spread / math.sqrt(n) < 1.0) == enough
    assert found.low < found.high  # type: ignore[operator]


def test_either_answer_decides() -> None:
    # Below 0, excluding the margin is nearer; in the other direction the same numbers are far.
    assert seeds_to_decide(of(-1.0, 2.0, 5), margin=1.0) == seeds_to_decide(
        of(2.0, 2.0, 5), margin=0.001
    )
    mirrored = seeds_to_decide(of(1.0, 2.0, 5), margin=1.0, direction=-1)
    assert mirrored == seeds_to_decide(of(-1.0, 2.0, 5), margin=1.0)


def test_a_larger_family_needs_more() -> None:
    lows = [seeds_to_decide(of(1.0, 2.0, 5), margin=0.5, tests=m).low for m in (1, 3, 9)]
    assert lows == sorted(set(lows))  # type: ignore[type-var]


def test_no_number_from_few_seeds_or_for_very_many() -> None:
    few = seeds_to_decide(of(1.0, 2.0, LEAST_TO_FORECAST - 1), margin=1.0)
    assert (few.low, few.high) == (None, None)
    assert f"fewer than {LEAST_TO_FORECAST} seeds" in few.reason
    assert seeds_to_decide(of(0.5, 900.0, 5), margin=1.0) == Seeds(reason=f"more than {MOST_SEEDS}")
    assert seeds_to_decide(of(0.4, 9.0, 5), margin=1.0).high is None
    assert "spread" in seeds_to_decide(of(1.0, 0.0, 5), margin=1.0).reason


def test_the_forecast_holds_in_simulation() -> None:
    """If today's mean and spread were true, so many seeds decide in 80 of 100 runs."""
    rng = np.random.default_rng(5)
    spread = 2.0 / math.sqrt(4 / stats.chi2.ppf(0.9, 4))  # so that the narrow end is 2
    count = seeds_to_decide(of(1.0, spread, 5), margin=0.1).low
    values = rng.normal(1.0, 2.0, (4000, count))
    p = stats.ttest_1samp(values, 0, axis=1).pvalue
    assert ((p < 0.05) & (values.mean(1) > 0)).mean() == pytest.approx(0.8, abs=0.03)
