"""Layer-wise dropout stability: the expected score when each layer's adapter is kept at random.

With every one of n layers kept with probability q,

    E_q[v] = Σₖ C(n, k) qᵏ(1−q)ⁿ⁻ᵏ v̄ₖ,

where v̄ₖ is the mean score of the sub-networks with k layers (Theorem 3.1 of the paper weights their
losses the same way). The v̄ₖ do not depend on q: measured once, they give the whole curve.
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from coto.analysis.masks import Array, Mask, Value, distinct, values_of
from coto.errors import CotoError


@dataclass(frozen=True)
class Stability:
    """Mean scores of sub-networks by how many layers they keep.

    Attributes:
        means: v̄ₖ for k = 0 … n, (n + 1,).
        errors: Their standard errors (n + 1,); zero where all subsets of a size were evaluated.
    """

    means: Array
    errors: Array

    def kept_with(self, q: float) -> tuple[float, float]:
        """Expected score and its standard error when each layer is kept with probability q.

        Raises:
            CotoError: if q is no probability.
        """
        weights = binomial(len(self.means) - 1, q)
        return float(weights @ self.means), float(np.sqrt(weights**2 @ self.errors**2))


def binomial(n: int, q: float) -> Array:
    """P(k of n layers are kept) for k = 0 … n, (n + 1,).

    Raises:
        CotoError: if q is no probability.
    """
    if not 0 <= q <= 1:
        raise CotoError(f"stability: q = {q}: expected a probability")
    return np.array([comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)])


def subsets_of_size(players: int, size: int, samples: int, seed: int) -> Mask:
    """All subsets of a size if there are no more than `samples`, else so many different ones.

    Args:
        players: number of players.
        size: how many of them are kept.
        samples: subsets at most; 2 or more, for a standard error.
        seed: of the choice; other sizes choose independently.

    Returns:
        Masks (subsets, players).
    """
    if samples < 2:
        raise CotoError(f"stability: samples = {samples}: expected 2 or more")
    if comb(players, size) <= samples:
        masks = np.zeros((comb(players, size), players), dtype=bool)
        for row, members in enumerate(combinations(range(players), size)):
            masks[row, list(members)] = True
        return masks
    generator = np.random.default_rng([seed, size])
    chosen: set[tuple[int, ...]] = set()
    while len(chosen) < samples:
        chosen.add(tuple(sorted(generator.choice(players, size, replace=False).tolist())))
    masks = np.zeros((samples, players), dtype=bool)
    for row, members in enumerate(sorted(chosen)):
        masks[row, list(members)] = True
    return masks


def required_masks(players: int, samples: int, seed: int = 0) -> Mask:
    """Every mask that :func:`stability` will ask for, in lexicographic order."""
    return distinct(
        np.concatenate(
            [subsets_of_size(players, size, samples, seed) for size in range(players + 1)]
        )
    )


def stability(value: Value, players: int, samples: int, seed: int = 0) -> Stability:
    """Mean scores by the number of layers kept.

    Args:
        value: the score of the model with the layers of a mask.
        players: number of layers.
        samples: subsets at most for each number of layers.
        seed: of their choice.

    Raises:
        CotoError: if there are no layers, or fewer than two samples.
    """
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
