"""Layer-wise dropout stability: the expected score when each layer's adapter is kept at random.

With every one of n layers kept with probability q,

    E_q[v] = Σₖ C(n, k) qᵏ(1−q)ⁿ⁻ᵏ v̄ₖ,

where v̄ₖ is the mean score of the sub-networks with k layers (Theorem 3.1 of the paper weights their
losses the same way). The v̄ₖ do not depend on q: measured once, they give the whole curve.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from coto.analysis.shapley import Array, Mask, Value, values_of
from coto.errors import CotoError


@dataclass(frozen=True)
class Stability:
    """Mean scores v̄ₖ for k = 0 … n layers kept, (n + 1,), and standard errors, zero where exact."""

    means: Array
    errors: Array

    def kept_with(self, q: float) -> tuple[float, float]:
        """Expected score and its standard error when each layer is kept with probability q."""
        weights = binomial(len(self.means) - 1, q)
        return float(weights @ self.means), float(np.sqrt(weights**2 @ self.errors**2))


def binomial(n: int, q: float) -> Array:
    """P(k of n layers are kept) for k = 0 … n, (n + 1,); CotoError if q is no probability."""
    if not 0 <= q <= 1:
        raise CotoError(f"stability: q = {q}: expected a probability")
    return np.array([comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)])


def subsets_of_size(players: int, size: int, samples: int, seed: int) -> Mask:
    """All subsets of a size if there are no more than `samples`, else so many different ones.

    Masks (subsets, players). CotoError for fewer than two samples: they have no standard error.
    """
    if samples < 2:
        raise CotoError(f"stability: samples = {samples}: expected 2 or more")
    subsets: Iterable[tuple[int, ...]] = combinations(range(players), size)
    if comb(players, size) > samples:
        generator = np.random.default_rng([seed, size])
        chosen: set[tuple[int, ...]] = set()
        while len(chosen) < samples:
            chosen.add(tuple(sorted(generator.choice(players, size, replace=False).tolist())))
        subsets = sorted(chosen)
    return np.array([np.isin(range(players), members) for members in subsets])


def required_masks(players: int, samples: int, seed: int = 0) -> Mask:
    """Every mask that :func:`stability` will ask for, in lexicographic order."""
    sizes = [subsets_of_size(players, size, samples, seed) for size in range(players + 1)]
    return np.unique(np.concatenate(sizes), axis=0)


def stability(value: Value, players: int, samples: int, seed: int = 0) -> Stability:
    """Mean scores by the number of layers kept, of at most so many samples for each number."""
    if players < 1:
        raise CotoError(f"stability: layers = {players}: expected 1 or more")
    means, errors = np.zeros(players + 1), np.zeros(players + 1)
    for size in range(players + 1):
        masks = subsets_of_size(players, size, samples, seed)
        scores = values_of(value, masks)
        means[size] = scores.mean()
        everything = comb(players, size)
        if len(masks) < everything:
            # Drawn without replacement: the finite population takes its share off the variance.
            left = 1 - len(masks) / everything
            errors[size] = np.sqrt(scores.var(ddof=1) / len(masks) * left)
    return Stability(means, errors)


class Bound(NamedTuple):
    """Expected loss over masks, and its lower bound by the theorem, for several p (points,)."""

    expected: Array
    bound: Array


def bound(losses: Array, reference: Array, p: Array) -> Bound:
    """Theorem 3.1 for mean losses of the sub-networks with j = 0 … n layers (n + 1,).

    `reference` has the loss of the averaged model for each j (n + 1,), `p` probabilities of keeping
    a layer (points,). CotoError if there is not one reference for each loss.
    """
    if losses.shape != reference.shape or losses.ndim != 1:
        raise CotoError(
            f"bound: losses of shape {losses.shape} and references of shape {reference.shape}: "
            "expected one of each for every number of layers"
        )
    weights = np.array([binomial(len(losses) - 1, q) for q in p])
    return Bound(weights @ losses, weights @ reference)


def mean_outputs(
    outputs_of: Callable[[Mask], Array], players: int, samples: int, seed: int = 0
) -> list[Array]:
    """Average output of the sub-networks with j = 0 … n layers, an array for each j.

    Outputs are such as logits (items, classes), with the masks of :func:`stability` with the same
    arguments: with losses of the same outputs, the bound holds on the sample.
    """
    means = []
    for size in range(players + 1):
        masks = np.unique(subsets_of_size(players, size, samples, seed), axis=0)
        total = sum((outputs_of(mask) for mask in masks[1:]), start=outputs_of(masks[0]))
        means.append(total / len(masks))
    return means
