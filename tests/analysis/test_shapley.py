"""Shapley values of games whose values are known, and the estimator against the enumeration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coto.analysis.shapley import Sampling, all_masks, required_masks, shapley, top_third_share
from coto.errors import CotoError


def unanimity(carrier):
    """1 if all of the carrier are there: they share it equally, the others get nothing."""
    return lambda mask: float(mask[list(carrier)].all())


def gloves(mask):
    """Players 0 and 1 hold a left glove, player 2 a right one; a pair is worth 1."""
    return float(mask[2] and (mask[0] or mask[1]))


def random_game(players: int, seed: int, order: int | None = None):
    """A game by its dividends: one for each coalition of at most `order` players.

    A coalition's members share its dividend equally, which gives the values without any formula
    that the code under test uses.
    """
    generator = np.random.default_rng(seed)
    carriers = all_masks(players)
    carriers = carriers[carriers.any(axis=1)]
    if order is not None:
        carriers = carriers[carriers.sum(axis=1) <= order]
    dividends = generator.normal(size=len(carriers))

    def value(mask):
        return float(dividends[~(carriers & ~mask).any(axis=1)].sum()) + 3.0

    shares = dividends / carriers.sum(axis=1)
    return value, carriers.T.astype(float) @ shares


@pytest.mark.parametrize("sampling", [None, Sampling(levels=40, pairs=40)])
def test_textbook_games(sampling):
    found = shapley(unanimity([1, 3]), 5, sampling)
    np.testing.assert_allclose(found.values, [0, 0.5, 0, 0.5, 0], atol=1e-3)
    found = shapley(gloves, 3, sampling)
    tolerance = 1e-12 if sampling is None else 5 * found.errors.max() + 1e-3
    np.testing.assert_allclose(found.values, [1 / 6, 1 / 6, 4 / 6], atol=tolerance)
    assert found.total == 1
    assert found.efficient(tolerance=1e-3)


@given(players=st.integers(1, 7), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_enumeration_gives_every_member_its_share_of_each_dividend(players, seed):
    value, expected = random_game(players, seed)
    found = shapley(value, players)
    np.testing.assert_allclose(found.values, expected, atol=1e-9)
    assert found.residual == pytest.approx(0, abs=1e-9)
    assert found.efficient()
    assert len(required_masks(players)) == 2**players
    assert not found.errors.any()


@given(players=st.integers(1, 9), seed=st.integers(0, 99), levels=st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_games_of_pairs_are_exact_with_any_sampling(players, seed, levels):
    value, expected = random_game(players, seed, order=2)
    found = shapley(value, players, Sampling(levels=levels, pairs=2, seed=seed))
    np.testing.assert_allclose(found.values, expected, atol=1e-9)
    np.testing.assert_allclose(found.errors, 0, atol=1e-9)


@pytest.mark.parametrize("jitter", [False, True])
def test_the_estimator_agrees_with_the_enumeration_within_its_own_error(jitter):
    deviations = []
    for seed in range(12):
        value, _ = random_game(8, seed)
        exact = shapley(value, 8)
        found = shapley(value, 8, Sampling(levels=10, pairs=20, seed=seed, jitter=jitter))
        assert (found.errors > 0).all()
        assert found.efficient()
        deviations.append((found.values - exact.values) / found.errors)
    # Standardised: neither too large nor, as with errors that are too wide, too small.
    spread = float(np.sqrt(np.mean(np.square(deviations))))
    assert 0.7 < spread < 1.3
    assert np.abs(deviations).max() < 5


def test_errors_fall_with_the_root_of_the_samples():
    value, _ = random_game(8, 1)
    few, many = (shapley(value, 8, Sampling(pairs=pairs)).errors.mean() for pairs in (10, 160))
    assert 3 < few / many < 5.5


def test_midpoints_are_biased_where_jitter_is_not():
    # Twelve players who are worth nothing without each other: c(p) = p¹¹, far from linear.
    game = unanimity(range(12))
    exact = 1 / 12
    midpoints = (np.arange(4) + 0.5) / 4
    rule = float(np.mean(midpoints**11))
    fixed, jittered = (
        shapley(game, 12, Sampling(levels=4, pairs=1500, jitter=jitter)) for jitter in (False, True)
    )
    assert abs(fixed.values.mean() - rule) < 5 * fixed.total_error / 12
    assert abs(rule - exact) > 0.01
    assert abs(jittered.values.mean() - exact) < 5 * jittered.total_error / 12
    assert jittered.total_error / 12 < 0.005


def test_a_residual_that_sampling_does_not_explain_is_told():
    # A score that changes between calls has no values that add up.
    calls = iter(range(10**6))
    found = shapley(lambda mask: float(mask.sum()) + 5 * (next(calls) % 7 == 0), 6)
    assert found.residual == pytest.approx(0, abs=1e-9)  # an enumeration always adds up
    noise = np.random.default_rng(0)
    found = shapley(
        lambda mask: float(mask.all()) * 100 + noise.normal(), 20, Sampling(levels=2, pairs=3)
    )
    assert not found.efficient()


@pytest.mark.parametrize(
    "sampling", [None, Sampling(levels=3, pairs=4), Sampling(levels=4, pairs=2)]
)
def test_the_masks_asked_for_are_those_announced_once_each(sampling):
    asked = []

    def value(mask):
        asked.append(tuple(mask.tolist()))
        return float(mask.sum())

    shapley(value, 7, sampling)
    announced = [tuple(mask.tolist()) for mask in required_masks(7, sampling)]
    assert sorted(asked) == announced == sorted(set(announced))
    assert len(asked) == len(announced)


def test_the_share_of_the_highest_layers():
    layers = np.repeat(np.arange(12), 3)
    assert top_third_share(np.ones(36), layers) == pytest.approx(1 / 3)
    assert top_third_share(np.where(layers >= 8, 2.0, 0.0), layers) == 1
    # Thirds of the layers that are adapted, not of the highest number.
    assert top_third_share(np.array([1.0, 1.0, 2.0]), np.array([5, 7, 40])) == 0.5


def test_bad_input_is_told():
    with pytest.raises(CotoError, match="players = 13 without sampling: expected at most 12"):
        shapley(gloves, 13)
    with pytest.raises(CotoError, match="players = 13 without sampling"):
        required_masks(13)
    with pytest.raises(CotoError, match="players = 0: expected 1 or more"):
        shapley(gloves, 0)
    with pytest.raises(CotoError, match=r"shapley\.pairs = 1: expected 2 or more"):
        Sampling(pairs=1)
    with pytest.raises(CotoError, match=r"shapley\.levels = 0: expected 1 or more"):
        Sampling(levels=0)
