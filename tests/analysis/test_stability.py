"""Dropout stability against the plain expectation over masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from coto.analysis.shapley import all_masks, values_of
from coto.analysis.stability import binomial, required_masks, stability, subsets_of_size
from coto.errors import CotoError


def bumpy(mask) -> float:
    """A score with interactions of every order."""
    return float(np.sin(mask @ np.arange(1, len(mask) + 1)) + mask.sum() ** 1.5)


@given(players=st.integers(1, 8), q=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_it_is_the_expectation_over_all_masks(players, q):
    masks = all_masks(players)
    probability = np.prod(np.where(masks, q, 1 - q), axis=1)
    expected = sum(w * bumpy(mask) for w, mask in zip(probability, masks, strict=True))
    mean, error = stability(bumpy, players, samples=100).kept_with(q)
    assert mean == pytest.approx(expected)
    assert error == 0


@given(n=st.integers(1, 40), q=st.floats(1e-100, 1) | st.just(0.0))  # SciPy overflows below
@settings(max_examples=20, deadline=None)
def test_the_weights_are_scipys(n, q):
    np.testing.assert_allclose(binomial(n, q), binom.pmf(np.arange(n + 1), n, q), atol=1e-12)


def test_the_ends_are_the_full_and_the_bare_model():
    found = stability(bumpy, 30, samples=5)
    assert found.kept_with(1) == (pytest.approx(bumpy(np.ones(30))), 0)
    assert found.kept_with(0) == (pytest.approx(bumpy(np.zeros(30))), 0)
    # One layer kept or dropped: 30 subsets, of which 5 are drawn.
    assert found.errors[1] > 0
    assert found.errors[0] == found.errors[30] == 0


@pytest.mark.parametrize("samples", [20, 110])  # of 126 subsets of four layers
def test_sampling_agrees_with_the_enumeration_within_its_own_error(samples):
    exact = stability(bumpy, 9, samples=1000)
    deviations = []
    for seed in range(40):
        found = stability(bumpy, 9, samples, seed)
        for q in (0.3, 0.5, 0.8):
            mean, error = found.kept_with(q)
            assert error > 0
            deviations.append((mean - exact.kept_with(q)[0]) / error)
    spread = float(np.sqrt(np.mean(np.square(deviations))))
    assert 0.7 < spread < 1.35


@given(players=st.integers(1, 10), samples=st.integers(2, 30), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_subsets_are_different_and_of_their_size(players, samples, seed):
    for size in range(players + 1):
        masks = subsets_of_size(players, size, samples, seed)
        assert (masks.sum(axis=1) == size).all()
        assert len(np.unique(masks, axis=0)) == len(masks) <= samples
        np.testing.assert_array_equal(masks, subsets_of_size(players, size, samples, seed))


def test_the_masks_asked_for_are_those_announced_once_each():
    asked = []
    stability(lambda mask: asked.append(tuple(mask.tolist())) or 0.0, 8, samples=10, seed=3)
    announced = [tuple(mask.tolist()) for mask in required_masks(8, samples=10, seed=3)]
    assert sorted(asked) == announced == sorted(set(announced))


def test_values_are_asked_once_and_returned_in_order():
    asked = []

    def value(mask):
        asked.append(mask)
        return float(mask @ [1, 2])

    rows = np.array([[1, 1], [0, 1], [1, 1], [0, 0]], dtype=bool)
    np.testing.assert_array_equal(values_of(value, rows), [3, 2, 3, 0])
    assert len(asked) == 3


def test_bad_input_is_told():
    for q in (-0.1, 1.1):
        with pytest.raises(CotoError, match=f"stability: q = {q}: expected a probability"):
            stability(bumpy, 3, samples=10).kept_with(q)
    with pytest.raises(CotoError, match="layers = 0: expected 1 or more"):
        stability(bumpy, 0, samples=10)
    with pytest.raises(CotoError, match="samples = 1: expected 2 or more"):
        stability(bumpy, 3, samples=1)
