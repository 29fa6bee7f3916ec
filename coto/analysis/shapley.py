"""Shapley values: what each player, such as one layer's adapter, contributes to a score.

φᵢ = ∫₀¹ cᵢ(p) dp with cᵢ(p) = E[v(R ∪ {i}) − v(R \\ {i})], where R holds every player with
probability p: the multilinear extension (Owen 1972), which the paper uses. Up to twelve players all
subsets are enumerated instead. Otherwise the integral is a midpoint rule over p. Each subset serves
all players, toggled one by one, and comes with its complement at 1 − p (Okhrati and Lipani 2021).
Standard errors come from the spread of the pairs; the midpoint rule's own error of order 1/levels²
comes on top, unless `jitter` draws p around each midpoint.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial
from typing import Any

import numpy as np

from coto.errors import CotoError

Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""(players,): True where the player, such as an adapter or a layer, is kept."""
Value = Callable[[Mask], float]
"""A score, such as accuracy or minus the loss, of the model with these players."""

EXACT_PLAYERS = 12
"""Up to so many players (4,096 masks) all subsets are enumerated."""


@dataclass(frozen=True)
class Shapley:
    """φ (players,) in units of the score, with standard errors, zero for an enumeration.

    `total` is v(all) − v(none), evaluated, `total_error` the standard error of Σφ.
    """

    values: Array
    errors: Array
    total: float
    total_error: float

    @property
    def residual(self) -> float:
        """Σφ − (v(all) − v(none)): zero but for sampling and the midpoint rule."""
        return float(self.values.sum()) - self.total

    def efficient(self, deviations: float = 4.0, tolerance: float = 1e-9) -> bool:
        """Whether the residual is within so many standard errors, or relatively as small."""
        scale = max(abs(self.total), float(np.abs(self.values).sum()))
        return abs(self.residual) <= deviations * self.total_error + tolerance * scale


@dataclass(frozen=True)
class Sampling:
    """How the multilinear extension is sampled.

    With so many midpoints p = (l + ½)/levels, or p drawn uniformly around each (`jitter`), and so
    many antithetic pairs of subsets for each pair of levels p and 1 − p.
    """

    levels: int = 10
    pairs: int = 25
    seed: int = 0
    jitter: bool = False

    def __post_init__(self) -> None:
        for name, least in (("levels", 1), ("pairs", 2)):
            if getattr(self, name) < least:
                raise CotoError(f"shapley.{name} = {getattr(self, name)}: expected {least} or more")

    def subsets(self, players: int) -> tuple[Mask, Array]:
        """Subsets R (level pairs, pairs, players), and the weight of each pair of levels."""
        generator = np.random.default_rng(self.seed)
        lower = np.arange((self.levels + 1) // 2)
        noise = generator.random((len(lower), self.pairs, players))
        shift = generator.random((len(lower), self.pairs, 1)) if self.jitter else 0.5
        p = (lower[:, None, None] + shift) / self.levels
        # The middle level of an odd number is its own partner.
        weights = np.where(2 * lower + 1 == self.levels, 1, 2) / self.levels
        return noise < p, weights


def all_masks(players: int) -> Mask:
    """(2^players, players): every subset; row m keeps player i where bit i of m is set."""
    if players > EXACT_PLAYERS:
        raise CotoError(
            f"shapley: players = {players} without sampling: expected at most {EXACT_PLAYERS}"
        )
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)


def values_of(value: Value, masks: Mask) -> Array:
    """The value of each row, asked for once per different row, in lexicographic order."""
    rows, where = np.unique(masks, axis=0, return_inverse=True)
    return np.array([value(row) for row in rows], dtype=float)[where.ravel()]


def required_masks(players: int, sampling: Sampling | None = None) -> Mask:
    """Every mask that :func:`shapley` will ask for, in lexicographic order."""
    masks = _sampled_masks(sampling.subsets(players)[0]) if sampling else all_masks(players)
    return np.unique(masks, axis=0)


def shapley(value: Value, players: int, sampling: Sampling | None = None) -> Shapley:
    """Shapley values of a score, which is asked once per mask; all subsets without a `sampling`.

    CotoError if there are no players, or too many to enumerate.
    """
    if players < 1:
        raise CotoError(f"shapley: players = {players}: expected 1 or more")
    return _enumerated(value, players) if sampling is None else _sampled(value, players, sampling)


def top_third_share(values: Array, layers: Array) -> float:
    """Share of Σφ that the highest third of the players' `layers` (players,) holds (the paper)."""
    present = np.unique(layers)
    top = present[round(2 * len(present) / 3) :]
    return float(values[np.isin(layers, top)].sum() / values.sum())


def _enumerated(value: Value, players: int) -> Shapley:
    masks = all_masks(players)
    scores = values_of(value, masks)
    sizes, index = masks.sum(axis=1), np.arange(len(masks))
    # |S|! (n − |S| − 1)! / n! for subsets S without the player
    n = players
    weights = [factorial(k) * factorial(n - k - 1) / factorial(n) for k in range(n)]
    values = np.empty(players)
    for player in range(players):
        without = index[~masks[:, player]]
        gains = scores[without + 2**player] - scores[without]
        values[player] = gains @ np.take(weights, sizes[without])
    return Shapley(values, np.zeros(players), float(scores[-1] - scores[0]), 0.0)


def _sampled(value: Value, players: int, sampling: Sampling) -> Shapley:
    subsets, weights = sampling.subsets(players)
    scores = values_of(value, _sampled_masks(subsets))
    none, whole = scores[-2:]
    # (complement or not, level pairs, pairs, 1 + players): v(R), then v(R with i toggled)
    table = scores[:-2].reshape(2, *subsets.shape[:-1], 1 + players)
    own = np.stack([subsets, ~subsets])
    gains = np.where(own, 1, -1) * (table[..., :1] - table[..., 1:])
    replicas = gains.mean(axis=0)  # of antithetic pairs: (level pairs, pairs, players)

    def error(of: Array) -> Array:
        spread = of.var(axis=1, ddof=1) / sampling.pairs
        return np.sqrt(np.tensordot(weights**2, spread, axes=1))

    return Shapley(
        values=np.tensordot(weights, replicas.mean(axis=1), axes=1),
        errors=error(replicas),
        total=float(whole - none),
        total_error=float(error(replicas.sum(axis=2))),
    )


def _sampled_masks(subsets: Mask) -> Mask:
    """Subsets (…, players) and their complements, as they are and with each player toggled.

    (2 · … · (1 + players) + 2, players): the last two are none and all of the players.
    """
    players = subsets.shape[-1]
    flips = np.vstack([np.zeros(players, dtype=bool), np.eye(players, dtype=bool)])
    toggled = np.stack([subsets, ~subsets])[..., None, :] ^ flips
    ends = np.array([[False] * players, [True] * players])
    return np.concatenate([toggled.reshape(-1, players), ends])
