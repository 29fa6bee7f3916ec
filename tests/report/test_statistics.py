import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from coto.report.claim import effect_size
from coto.report.statistics import PairedEffect, holm, judge, mean_interval, paired_effect


def pairs_of(differences: np.ndarray) -> pd.DataFrame:
    """Rows of a (tasks, seeds) matrix; NaN cells are left out."""
    return pd.DataFrame(
        [
            {"task": f"t{t}", "seed": s, "difference": differences[t, s]}
            for t, s in np.ndindex(*differences.shape)
            if np.isfinite(differences[t, s])
        ]
    )


def effect_of(mean: float, low: float, high: float, p: float = 0.001, **more: int) -> PairedEffect:
    counts = {"n_pairs": 12, "n_seeds": 3, "n_tasks": 4} | more
    return PairedEffect(mean, low, high, p, **counts, least_p=2.0 ** (1 - counts["n_pairs"]))


# --- intervals of one arm ------------------------------------------------------------------------


def test_mean_interval_is_the_textbook_formula() -> None:
    x = [0.81, 0.84, 0.86, 0.80]
    found = mean_interval(x, 0.9)
    half = stats.t.ppf(0.95, 3) * np.std(x, ddof=1) / 2
    assert found.mean == pytest.approx(np.mean(x))
    assert (found.low, found.high) == pytest.approx((np.mean(x) - half, np.mean(x) + half))
    assert found.n == 4


def test_mean_interval_of_one_and_of_equal_values() -> None:
    one, equal = mean_interval([0.5]), mean_interval([0.1, 0.1, 0.1])
    assert (one.mean, one.n) == (0.5, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert (equal.mean, equal.low, equal.high) == (0.1, 0.1, 0.1)


@pytest.mark.parametrize("bad", [[], [0.1, math.nan], [math.inf]])
def test_mean_interval_refuses_what_is_no_number(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="expected one or more finite numbers"):
        mean_interval(bad)


# --- paired effects ------------------------------------------------------------------------------


@given(
    st.lists(
        st.floats(-1, 1).map(lambda x: round(x, 3)).filter(lambda x: x != 0),
        min_size=2,
        max_size=8,
    )
)
@example([0.5, 0.797, 0.219, 0.062, 0.016, -0.812, -0.781])  # sums to nearly nothing: ties matter
def test_p_is_the_share_of_sign_patterns_at_least_as_extreme(values: list[float]) -> None:
    x = np.array(values)
    found = paired_effect(pairs_of(x[:, None]), resamples=50)
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(x)))) @ x
    tail = min(np.mean(patterns >= x.sum() - 1e-9), np.mean(patterns <= x.sum() + 1e-9))
    assert found.p == pytest.approx(min(1, 2 * tail))


def test_mean_weighs_tasks_equally_when_seeds_are_missing() -> None:
    grid = np.array([[0.1, 0.3, 0.2], [0.5, np.nan, np.nan]])
    found = paired_effect(pairs_of(grid))
    assert found.mean == pytest.approx((0.2 + 0.5) / 2)
    assert (found.n_pairs, found.n_tasks, found.n_seeds) == (4, 2, 3)
    assert found.low <= found.mean <= found.high


def test_tasks_do_not_multiply_what_is_the_luck_of_a_seed() -> None:
    row = np.array([-0.4, 0.1, 0.2, 0.9])
    found = paired_effect(pairs_of(np.tile(row, (6, 1))))
    alone = stats.bootstrap((row,), np.mean, method="percentile", rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.03)


def test_interval_covers_the_true_mean() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for i in range(250):
        seeds = rng.normal(0, 0.5, (1, 3))
        grid = 0.3 + rng.normal(0, 0.5, (5, 1)) + seeds + rng.normal(0, 1, (5, 3))
        found = paired_effect(pairs_of(grid), resamples=300, seed=i)
        covered += found.low <= 0.3 <= found.high
    assert 0.88 <= covered / 250 <= 0.99


def test_degenerate_pairs() -> None:
    one = paired_effect(pairs_of(np.array([[0.2]])))
    assert (one.mean, one.p, one.n_pairs) == (0.2, 1.0, 1)
    assert math.isnan(one.low)
    equal = paired_effect(pairs_of(np.full((3, 2), 0.25)))
    assert (equal.low, equal.high) == (0.25, 0.25)
    assert equal.p == pytest.approx(2 / 2**6)
    nothing = paired_effect(pairs_of(np.zeros((3, 2))))
    assert (nothing.mean, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)
    single_task = paired_effect(pairs_of(np.array([[0.1, 0.2, 0.4]])))
    bounds = (single_task.low, single_task.high)
    assert bounds == pytest.approx((0.1, 0.4))


def test_pairs_of_seeds_count_the_seeds_that_they_are_made_of() -> None:
    labels = pd.Series([(0, 1), (0, 2), (1, 2)], dtype=object)
    pairs = pd.DataFrame({"task": "a", "seed": labels, "difference": [0.1, 0.2, 0.3]})
    found = paired_effect(pairs)
    assert (found.n_pairs, found.n_seeds) == (3, 3)


def test_resampling_is_seeded_and_ignores_row_order() -> None:
    grid = np.random.default_rng(5).normal(0.1, 1, (6, 4))
    pairs = pairs_of(grid)
    first = paired_effect(pairs, seed=1)
    assert first == paired_effect(pairs.sample(frac=1, random_state=2), seed=1)
    assert first != paired_effect(pairs, seed=2)


def test_many_pairs_use_random_sign_patterns() -> None:
    grid = np.random.default_rng(6).normal(0.4, 1, (8, 4))
    assert paired_effect(pairs_of(grid)).p == pytest.approx(
        stats.ttest_1samp(grid.ravel(), 0).pvalue, rel=0.5
    )


def test_the_least_p_is_what_a_clear_effect_reaches() -> None:
    for shape in ((2, 3), (5, 4)):
        found = paired_effect(pairs_of(np.ones(shape)), resamples=500)
        assert found.p == pytest.approx(found.least_p)
    half = np.array([[0.1, 0.2, 0.0], [0.3, 0.0, 0.0]])
    assert paired_effect(pairs_of(half)).least_p == 2 / 2**3  # zeros have no sign to flip


def test_a_pair_may_stand_there_only_once() -> None:
    pairs = pairs_of(np.ones((2, 2)))
    with pytest.raises(ValueError, match="every \\(task, seed\\) once"):
        paired_effect(pd.concat([pairs, pairs]))


# --- effect sizes ----------------------------------------------------------------------------


def test_effect_size_is_hedges_corrected() -> None:
    grid = np.array([[0.1, 0.4, 0.2], [0.3, 0.5, -0.1], [0.2, 0.6, 0.1]])
    found = effect_size(pairs_of(grid))
    plain = grid.mean() / grid.std(ddof=1)
    assert found.mean == pytest.approx(plain * (1 - 3 / (4 * 8 - 1)))
    # Neither the unit nor the side that is called ours matters to its size.
    scaled = effect_size(pairs_of(-100 * grid))
    assert (scaled.mean, scaled.low, scaled.high) == pytest.approx(
        (-found.mean, -found.high, -found.low), rel=0.05
    )


def test_effect_size_interval_covers_the_true_one() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for i in range(200):
        found = effect_size(pairs_of(rng.normal(0.5, 1, (1, 30))), resamples=400, seed=i)
        covered += found.low <= 0.5 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_effect_size_resamples_seeds_as_a_whole() -> None:
    rng = np.random.default_rng(4)
    shared = np.tile(rng.normal(0.3, 1, 6), (8, 1)) + rng.normal(0, 0.01, (8, 6))
    apart = rng.permuted(shared.ravel()).reshape(8, 6)
    wide, narrow = (effect_size(pairs_of(grid)) for grid in (shared, apart))
    assert wide.mean == pytest.approx(narrow.mean)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


@pytest.mark.parametrize("grid", [[[0.2]], [[0.1, 0.3]], [[0.1, 0.1], [0.1, 0.1]]])
def test_no_effect_size_without_spread_or_pairs(grid: list[list[float]]) -> None:
    found = effect_size(pairs_of(np.array(grid)))
    assert math.isnan(found.mean)
    assert math.isnan(found.low)


def test_a_bound_that_resamples_without_spread_reach_is_open() -> None:
    found = effect_size(pairs_of(np.array([[0.1, 0.2, 0.4]])))  # 1 of 9 resamples is one value
    assert math.isfinite(found.low)
    assert math.isnan(found.high)


# --- many tests ------------------------------------------------------------------------------


def test_holm_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    for raw, found in zip(p, adjusted, strict=True):
        assert raw <= found <= min(1, len(p) * raw)
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    # Rejecting by adjusted p is the step-down procedure: stop at the first p that is too large.
    rejected = 0
    for rank, i in enumerate(order):
        if p[i] * (len(p) - rank) >= 0.05:
            break
        rejected += 1
    assert sum(found < 0.05 for found in adjusted) == rejected


# --- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "direction", "label", "reason"),
    [
        (effect_of(0.03, 0.02, 0.04), 1, "supported", "claimed side"),
        (effect_of(-0.03, -0.04, -0.02), -1, "supported", "claimed side"),
        (effect_of(0.004, 0.002, 0.006), 1, "supported", "smaller than the margin"),
        (effect_of(-0.03, -0.04, -0.02), 1, "not supported", "other side"),
        (effect_of(0.03, 0.02, 0.04), -1, "not supported", "other side"),
        (effect_of(0.0, -0.005, 0.005, p=0.9), 1, "not supported", "as large as the margin"),
        (effect_of(0.004, 0.002, 0.006, p=0.2), 1, "not supported", "as large as the margin"),
        (effect_of(0.01, -0.01, 0.03, p=0.4), 1, "inconclusive", "both 0 and the margin"),
        (effect_of(0.03, 0.01, 0.05, p=0.07), 1, "inconclusive", "p = 0.070"),
        (effect_of(0.03, 0.02, 0.04, p=0.125, n_pairs=4), 1, "inconclusive", "4 pairs cannot"),
        (effect_of(0.03, 0.02, 0.04, n_seeds=1), 1, "inconclusive", "at least two seeds, has 1"),
        (effect_of(-0.03, -0.04, -0.02, n_seeds=1), 1, "inconclusive", "at least two seeds"),
        (effect_of(0.03, math.nan, math.nan, n_seeds=1), 1, "inconclusive", "at least two"),
    ],
)
def test_verdicts(effect: PairedEffect, direction: int, label: str, reason: str) -> None:
    verdict = judge(effect, margin=0.01, direction=direction)
    assert verdict.label == label
    assert reason in verdict.reason


def test_margin_must_be_positive() -> None:
    with pytest.raises(ValueError, match="margin: got 0"):
        judge(effect_of(0, -1, 1), margin=0)


@pytest.mark.parametrize(
    ("p", "adjusted", "n_pairs", "label", "reason"),
    [
        (0.01, 0.03, 12, "supported", "claimed side"),
        (0.01, 0.06, 12, "inconclusive", "p = 0.060 after Holm's correction is not below 0.05"),
        (0.0156, 0.0625, 7, "inconclusive", "smallest of 4 must be below 0.05/4, which 7 pairs"),
        (0.125, 0.5, 4, "inconclusive", "4 pairs cannot give p < 0.05"),
    ],
)
def test_verdicts_of_a_family(
    p: float, adjusted: float, n_pairs: int, label: str, reason: str
) -> None:
    effect = effect_of(0.03, 0.02, 0.04, p=p, n_pairs=n_pairs)
    verdict = judge(effect, margin=0.01, tests=4, adjusted_p=adjusted)
    assert verdict.label == label
    assert reason in verdict.reason


def test_a_correction_never_turns_harm_into_doubt() -> None:
    verdict = judge(effect_of(-0.03, -0.04, -0.02), margin=0.01, tests=9, adjusted_p=0.5)
    assert verdict.label == "not supported"
