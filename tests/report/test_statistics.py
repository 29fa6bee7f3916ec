import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from coto.report.statistics import (
    Estimate,
    decide,
    estimate,
    holm,
    judge,
    mean_interval,
    pseudo_values,
    sign_flip,
)


def pairs_of(differences: np.ndarray) -> pd.DataFrame:
    """Rows of a (tasks, seeds) matrix; NaN cells are left out."""
    return pd.DataFrame(
        [
            {"task": f"t{t}", "seed": s, "difference": differences[t, s]}
            for t, s in np.ndindex(*differences.shape)
            if np.isfinite(differences[t, s])
        ]
    )


def mixtures_of(n: int, size: int, value: Callable[..., float]) -> pd.DataFrame:
    """Rows of one task and every mixture of so many of n seeds."""
    labels = list(itertools.combinations(range(n), size))
    seeds = pd.Series(labels, dtype=object)
    return pd.DataFrame({"task": "t", "seed": seeds, "difference": [value(*s) for s in labels]})


# --- means and intervals -------------------------------------------------------------------------


def test_mean_interval_is_the_textbook_formula() -> None:
    x = [0.81, 0.84, 0.86, 0.80]
    found = mean_interval(x, 0.9)
    expected = stats.t.interval(0.9, 3, loc=np.mean(x), scale=stats.sem(x))
    assert (found.mean, found.n) == (pytest.approx(np.mean(x)), 4)
    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("few", [[0.5], [0.1, 0.3], [0.1, 0.1]])
def test_one_or_two_values_have_no_interval(few: list[float]) -> None:
    found = mean_interval(few)
    assert found.mean == pytest.approx(np.mean(few))
    assert np.isnan([found.low, found.high]).all()
    equal = mean_interval([0.1, 0.1, 0.1])
    assert (equal.low, equal.high) == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize("bad", [[], [0.1, math.nan], [math.inf]])
def test_what_is_no_number_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="expected one or more finite numbers"):
        mean_interval(bad)


def test_seeds_are_the_unit() -> None:
    grid = np.random.default_rng(1).normal(0.3, 1, (5, 4))
    found = estimate(pairs_of(grid))
    test = stats.ttest_1samp(grid.mean(0), 0)
    assert found.mean == pytest.approx(grid.mean())
    assert found.interval(0.9) == pytest.approx(tuple(test.confidence_interval(0.9)))
    assert found.p() == pytest.approx(test.pvalue)
    assert found.p(0.7) == pytest.approx(stats.ttest_1samp(grid.mean(0), 0.7).pvalue)
    assert (found.n_units, found.n_seeds, found.n_tasks, found.n_values) == (4, 4, 5, 20)
    # However many tasks repeat what a seed does, they are no further evidence.
    again = estimate(pairs_of(np.tile(grid, (6, 1))))
    assert (again.mean, again.error) == pytest.approx((found.mean, found.error))
    assert estimate(pairs_of(grid).sample(frac=1, random_state=2)) == found


def test_a_seed_that_lacks_a_task_is_left_out() -> None:
    grid = np.array([[0.1, 0.3, 0.2, 7.0], [0.5, 0.2, 0.4, np.nan]])
    assert estimate(pairs_of(grid)) == estimate(pairs_of(grid[:, :3]))
    none = estimate(pairs_of(np.array([[0.1, np.nan], [np.nan, 0.5]])))
    assert (none.mean, none.n_units, none.n_seeds, none.p()) == (0.3, 0, 2, 1)
    assert judge(none, margin=0.1).label == "inconclusive"


def test_a_pair_may_stand_there_only_once() -> None:
    pairs = pairs_of(np.ones((2, 2)))
    with pytest.raises(ValueError, match="every \\(task, seed\\) once"):
        estimate(pd.concat([pairs, pairs]))


# --- mixtures of seeds ---------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(3, 2), (4, 2), (6, 2), (5, 3)])
def test_what_a_seed_adds_to_its_mixtures_is_given_back(n: int, size: int) -> None:
    x = np.random.default_rng(n).normal(size=n)
    found = estimate(mixtures_of(n, size, lambda *seeds: sum(x[list(seeds)]) / size))
    assert found.units == pytest.approx(x)
    assert (found.n_units, found.n_seeds, found.mean) == (n, n, pytest.approx(x.mean()))
    assert found.p() == pytest.approx(stats.ttest_1samp(x, 0).pvalue)


def test_what_belongs_to_single_mixtures_is_never_underestimated() -> None:
    rng = np.random.default_rng(3)
    labels = list(itertools.combinations(range(4), 2))
    values = rng.normal(size=(20_000, len(labels)))
    units = pseudo_values(values, labels)
    assert units.mean(-1) == pytest.approx(values.mean(-1))
    claimed = (units.var(-1, ddof=1) / 4).mean()
    assert claimed > values.mean(-1).var()


def test_two_seeds_are_one_value_whatever_the_tasks() -> None:
    rows = pd.concat([mixtures_of(2, 2, lambda a, b: 0.1).assign(task=name) for name in "abc"])
    found = estimate(rows)
    assert (found.n_units, found.n_seeds, found.n_tasks) == (1, 2, 3)
    assert np.isnan(found.interval()).all()
    verdict = judge(found, margin=0.01)
    assert (verdict.label, verdict.reason) == ("inconclusive", "needs at least 3 seeds, has 2")


def test_where_mixtures_are_missing_disjoint_ones_are_taken() -> None:
    rows = mixtures_of(6, 3, lambda a, b, c: 100.0 * a + 10 * b + c)
    rows = rows[[label in {(0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5)} for label in rows["seed"]]]
    found = estimate(rows)
    assert found.units == (12.0, 345.0)
    verdict = judge(found, margin=0.01)
    assert "disjoint mixtures of them, has 2" in verdict.reason


# --- the permutation test ------------------------------------------------------------------------


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
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(x)))) @ x
    tail = min(np.mean(patterns >= x.sum() - 1e-9), np.mean(patterns <= x.sum() + 1e-9))
    assert sign_flip(x, resamples=50, seed=0) == pytest.approx(min(1, 2 * tail))


def test_the_least_p_of_a_permutation_is_that_of_its_seeds() -> None:
    for n in (3, 6):
        assert sign_flip(np.ones(n), resamples=50, seed=0) == 2.0 ** (1 - n)
    many = np.random.default_rng(6).normal(0.4, 1, 30)
    expected = stats.ttest_1samp(many, 0).pvalue
    assert sign_flip(many, resamples=4000, seed=0) == pytest.approx(expected, rel=0.5)
    assert math.isnan(sign_flip([0.3, 0.0], resamples=50, seed=0))


# --- many tests ------------------------------------------------------------------------------


def test_holm_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([0.02]).tolist() == [0.02]
    assert holm([]).tolist() == []
    both = holm([[0.01, 0.04], [0.5, 0.2]])
    assert both == pytest.approx(np.array([[0.02, 0.04], [0.5, 0.4]]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    for raw, found in zip(p, adjusted, strict=True):
        assert raw <= found <= min(1, len(p) * raw)
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    # Rejecting by adjusted p is the step-down procedure: stop at the first p that is too large.
    rejected = 0
    for rank, i in enumerate(order):
        if p[i] * (len(p) - rank) >= 0.05:
            break
        rejected += 1
    assert sum(found < 0.05 for found in adjusted) == rejected


# --- verdicts ------------------------------------------------------------------------------------


def of(mean: float, half: float, n: int = 6) -> Estimate:
    """An effect of n seeds whose 95 % interval has this half-width."""
    error = half / stats.t.ppf(0.975, n - 1)
    return Estimate(mean, float(error), n - 1, n, n, 4, 4 * n)


@pytest.mark.parametrize(
    ("found", "direction", "label", "reason"),
    [
        (of(0.03, 0.01), 1, "supported", "claimed side"),
        (of(-0.03, 0.01), -1, "supported", "claimed side"),
        (of(0.004, 0.002), 1, "supported", "smaller than the margin"),
        (of(-0.03, 0.01), 1, "not supported", "other side"),
        (of(0.03, 0.01), -1, "not supported", "other side"),
        (of(0.0, 0.005), 1, "not supported", "equivalent"),
        (of(-0.01, 0.015), 1, "not supported", "excludes an effect as large as the margin"),
        (of(0.01, 0.02), 1, "inconclusive", "both 0 and the margin"),
        (of(0.03, 0.02, n=2), 1, "inconclusive", "at least 3 seeds, has 2"),
        (of(-0.03, 0.001, n=1), 1, "inconclusive", "at least 3 seeds, has 1"),
        (of(0.03, 0.0), 1, "inconclusive", "differ by the same"),
        (of(0.0, 0.0), 1, "inconclusive", "did they train"),
    ],
)
def test_verdicts(found: Estimate, direction: int, label: str, reason: str) -> None:
    verdict = judge(found, margin=0.01, direction=direction)
    assert (verdict.label, reason in verdict.reason) == (label, True), verdict.reason


def test_margin_must_be_positive() -> None:
    with pytest.raises(ValueError, match="margin: got 0"):
        judge(of(0, 1), margin=0)


@pytest.mark.parametrize(
    ("found", "corrected", "label", "reason"),
    [
        (of(0.03, 0.01), (0.03, 0.2), "supported", "claimed side"),
        (of(0.03, 0.01), (0.06, 0.2), "inconclusive", "p = 0.060 after Holm's correction for 4"),
        # Wholly positive, below the margin, not significant after correction: no denial.
        (of(0.004, 0.002), (0.08, 0.001), "inconclusive", "p = 0.080"),
        # Equivalence and harm are corrected like the rest.
        (of(0.0, 0.005), (1, 0.07), "inconclusive", "p = 0.070 against the margin after Holm's"),
        (of(-0.03, 0.01), (0.06, 0.04), "not supported", "other side"),
        (of(-0.03, 0.01), (0.2, 0.06), "inconclusive", "p = 0.060 against the margin"),
    ],
)
def test_verdicts_of_a_family(
    found: Estimate, corrected: tuple[float, float], label: str, reason: str
) -> None:
    verdict = judge(found, margin=0.01, tests=4, corrected=corrected)
    assert (verdict.label, reason in verdict.reason) == (label, True), verdict.reason


@given(st.floats(-3, 3), st.floats(0.01, 3), st.integers(3, 9), st.floats(0.1, 2))
def test_uncorrected_verdicts_can_be_read_off_the_interval(
    mean: float, half: float, n: int, margin: float
) -> None:
    low, high = mean - half, mean + half
    expected = "supported" if low > 0 else "not supported" if high < margin else "inconclusive"
    if min(abs(low), abs(high - margin)) > 1e-9:
        assert judge(of(mean, half, n), margin=margin).label == expected


def test_nothing_is_both_supported_and_not() -> None:
    rng = np.random.default_rng(0)
    low, p, p_margin, mean = rng.uniform(-1, 1, (4, 1000))
    supported, unsupported = decide(low, abs(p) / 9, abs(p_margin) / 9, mean, 0.3, 0.05)
    assert supported.any()
    assert unsupported.any()
    assert not (supported & unsupported).any()
