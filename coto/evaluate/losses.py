"""Losses of outputs that are at hand: of one model's logits, or of several models' mean."""

import numpy as np


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the right classes in nats, computed in float64.

    Args:
        logits: (items, classes).
        labels: class numbers, (items,).
    """
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)  # no exponential overflows
    right = wide[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(wide).sum(axis=1)) - right))


def squared_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean squared error of a regression's outputs (items, 1) against the values (items,)."""
    return float(np.mean((outputs[:, 0].astype(np.float64) - targets) ** 2))
