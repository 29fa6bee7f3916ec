"""Losses against torch's, and where fp32 would overflow."""

import math

import numpy as np
import pytest
import torch

from coto.models.scoring import cross_entropy, squared_error

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 7])
def test_cross_entropy_is_torchs_in_float64(classes):
    logits = DRAW.normal(0, 5, (20, classes)).astype(np.float32)
    labels = DRAW.integers(0, classes, 20)
    before = logits.copy()
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits).double(), torch.tensor(labels)
    ).item()
    assert cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(logits, before)


def test_extreme_logits_stay_finite_and_exact():
    logits = np.array([[3e4, -3e4], [0, 0], [0, 40]], dtype=np.float32)
    assert cross_entropy(logits[:1], np.array([0])) == 0
    assert cross_entropy(logits[:1], np.array([1])) == 6e4
    assert cross_entropy(logits[1:2], np.array([1])) == pytest.approx(math.log(2))
    # In fp32 the loss of a sure and right answer would be zero from about 17 nats on.
    assert cross_entropy(logits[2:].astype(np.float64) / 2, np.array([1])) == pytest.approx(
        math.exp(-20), rel=1e-6
    )


def test_squared_error_is_per_item():
    assert squared_error(np.array([[1.0], [3.0]], np.float32), np.array([1.0, 5.0])) == 2
