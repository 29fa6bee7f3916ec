"""The bound of Theorem 3.1 on models whose convexity is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from coto.analysis.shapley import all_masks
from coto.analysis.stability import bound, mean_outputs, stability
from coto.errors import CotoError

GRID = np.linspace(0, 1, 11)
ITEMS, CLASSES = 5, 3


def slack(found) -> np.ndarray:
    """Expected loss minus bound (points,): negative where the bound is violated."""
    return found.expected - found.bound


class Additive:
    """Logits base + Σ δᵢuᵢ: averaging outputs and averaging weights are the same here."""

    def __init__(self, players: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.base = generator.normal(size=(ITEMS, CLASSES))
        self.parts = generator.normal(size=(players, ITEMS, CLASSES))
        self.labels = generator.integers(CLASSES, size=ITEMS)

    def logits(self, mask) -> np.ndarray:
        return self.base + np.tensordot(np.asarray(mask, dtype=float), self.parts, axes=1)

    def cross_entropy(self, logits) -> float:
        return -log_softmax(logits, axis=1)[np.arange(ITEMS), self.labels].mean()


def measured(outputs_of, loss, players, samples, seed=0):
    """Mean losses and losses of mean outputs, with one evaluation of each mask."""
    losses = {}

    def remembering(mask):
        assert mask.tobytes() not in losses
        outputs = outputs_of(mask)
        losses[mask.tobytes()] = loss(outputs)
        return outputs

    reference = [loss(outputs) for outputs in mean_outputs(remembering, players, samples, seed)]
    means = stability(lambda mask: losses[mask.tobytes()], players, samples, seed).means
    return means, np.array(reference)


@given(players=st.integers(1, 7), samples=st.sampled_from([2, 5, 1000]), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_convex_loss_of_the_mean_output_bounds_the_expected_loss(players, samples, seed):
    model = Additive(players, seed)
    means, reference = measured(model.logits, model.cross_entropy, players, samples, seed)
    found = bound(means, reference, GRID)
    assert (slack(found) >= -1e-12).all()
    # Only one sub-network has none of the layers, and one all of them.
    np.testing.assert_allclose(slack(found)[[0, -1]], 0, atol=1e-12)
    assert (slack(found)[1:-1] > 1e-6).all() == (players > 1)


def test_the_expected_loss_is_that_over_all_masks():
    model = Additive(4, seed=3)
    means, reference = measured(model.logits, model.cross_entropy, 4, samples=100)
    masks = all_masks(4)
    probability = np.prod(np.where(masks, 0.3, 0.7), axis=1)
    losses = [model.cross_entropy(model.logits(mask)) for mask in masks]
    found = bound(means, reference, np.array([0.3]))
    np.testing.assert_allclose(found.expected, [probability @ losses])


def test_a_linear_loss_leaves_no_slack():
    model = Additive(6, seed=1)
    means, reference = measured(model.logits, lambda logits: logits[0, 1], 6, samples=4)
    np.testing.assert_allclose(slack(bound(means, reference, GRID)), 0, atol=1e-12)


def test_in_an_additive_model_mean_outputs_are_those_of_the_mean_weights():
    model = Additive(6, seed=2)
    for size, outputs in enumerate(mean_outputs(model.logits, 6, samples=20)):
        np.testing.assert_allclose(outputs, model.logits(np.full(6, size / 6)))


def test_weights_averaged_through_a_product_violate_the_bound():
    # Two layers in a row, each useless without the other: the output is δ₁δ₂, the target 0.
    def output(strengths):
        return np.array([[strengths[0] * strengths[1]]], dtype=float)

    def loss(outputs):
        return float(np.square(outputs).mean())

    means, of_outputs = measured(output, loss, 2, samples=10)
    of_weights = np.array([loss(output([size / 2, size / 2])) for size in range(3)])
    assert (slack(bound(means, of_outputs, GRID)) >= 0).all()
    violated = bound(means, of_weights, GRID)
    # One layer of two: loss 0, and (½·½)² with both at half strength.
    np.testing.assert_allclose(slack(violated), -2 * GRID * (1 - GRID) / 16, atol=1e-15)
    assert not (slack(violated) >= -0.03).all()
    assert (slack(violated) >= -0.04).all()


def test_bad_input_is_told():
    with pytest.raises(CotoError, match=r"losses of shape \(3,\) and references of shape \(2,\)"):
        bound(np.zeros(3), np.zeros(2), GRID)
    with pytest.raises(CotoError, match=r"q = 1\.5: expected a probability"):
        bound(np.zeros(3), np.zeros(3), np.array([1.5]))
