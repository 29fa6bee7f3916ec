"""The lower bound on the expected loss over masks (Theorem 3.1 of the paper), and whether it holds.

With every one of n layers kept with probability p, the expected loss is Σⱼ Bin(j; n, p) v̄ⱼ, where
v̄ⱼ is the mean loss of the sub-networks with j layers. For a convex loss, Jensen's inequality bounds
each v̄ⱼ from below by the loss of *one* model, the average of those sub-networks, and so the
expectation by the sum of these with the same weights. There are two averages to take:

- of the *outputs* of the sub-networks (:func:`mean_outputs`): the loss is convex in the outputs
  (cross-entropy in the logits is), so the bound always holds;
- of their *weights*, which is W₀ + (j/n)ΔW when all subsets of j layers weigh the same: the theorem
  then assumes that the loss is convex in the weights, which that of a transformer is not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from coto.analysis.masks import Array, Mask, distinct
from coto.analysis.stability import binomial, subsets_of_size
from coto.errors import CotoError


@dataclass(frozen=True)
class Bound:
    """Expected loss and its bound for several probabilities of keeping a layer.

    Attributes:
        p: the probabilities (points,).
        expected: expected loss over masks (points,).
        bound: its lower bound by the theorem (points,).
    """

    p: Array
    expected: Array
    bound: Array

    @property
    def slack(self) -> Array:
        """Expected loss minus bound (points,): negative where the bound is violated."""
        return self.expected - self.bound

    def holds(self, tolerance: float) -> bool:
        """Whether the slack is at least -`tolerance`, in units of the loss, for every p."""
        return bool((self.slack >= -tolerance).all())


def bound(losses: Array, reference: Array, p: Array) -> Bound:
    """Theorem 3.1 for losses measured by the number of layers kept.

    Args:
        losses: mean loss of the sub-networks with j = 0 … n layers (n + 1,), as
            :class:`coto.analysis.stability.Stability` has them.
        reference: loss of the averaged model for each j (n + 1,).
        p: probabilities of keeping a layer (points,).

    Raises:
        CotoError: if there is not one reference for each loss, or a p is no probability.
    """
    if losses.shape != reference.shape or losses.ndim != 1:
        raise CotoError(
            f"bound: losses of shape {losses.shape} and references of shape {reference.shape}: "
            "expected one of each for every number of layers"
        )
    weights = np.array([binomial(len(losses) - 1, q) for q in p])
    return Bound(p, weights @ losses, weights @ reference)


def mean_outputs(
    outputs_of: Callable[[Mask], Array], players: int, samples: int, seed: int = 0
) -> list[Array]:
    """Average output of the sub-networks with j = 0 … n layers, an array for each j.

    The masks are those of :func:`coto.analysis.stability.stability` with the same arguments, each
    asked for once: with losses of the same outputs, the bound holds on the sample, not only in
    expectation.

    Args:
        outputs_of: the model's outputs, such as logits (items, classes), with the layers of a mask.
        players: number of layers.
        samples: subsets at most for each number of layers.
        seed: of their choice.
    """
    means = []
    for size in range(players + 1):
        masks = distinct(subsets_of_size(players, size, samples, seed))
        total = sum((outputs_of(mask) for mask in masks[1:]), start=outputs_of(masks[0]))
        means.append(total / len(masks))
    return means
