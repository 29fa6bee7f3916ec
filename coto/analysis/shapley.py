"""Shapley values: what each player, such as one layer's adapter, contributes to a score.

φᵢ = ∫₀¹ cᵢ(p) dp with cᵢ(p) = E[v(R ∪ {i}) − v(R \\ {i})], where R holds every player with
probability p: the multilinear extension (Owen 1972), which the paper uses. Up to twelve players all
subsets are enumerated instead. Otherwise the integral is a midpoint rule over p, and

- one subset serves all players: toggling each of them costs players + 1 evaluations per subset;
- subsets come in antithetic pairs, R at p and its complement at 1 − p (Okhrati and Lipani 2021),
  which leaves no sampling error at all where players interact in pairs only;
- standard errors come from the spread of the pairs. They do not cover the midpoint rule's own error
  of order 1/levels²; with `jitter`, p is uniform around each midpoint and there is none.

The values of all players must add up to v(all) − v(none), which the estimate does not use:
:attr:`Shapley.residual` checks it.
"""

from dataclasses import dataclass
from math import factorial

import numpy as np

from coto.analysis.masks import (
    EXACT_PLAYERS,
    Array,
    Mask,
    Value,
    all_masks,
    distinct,
    values_of,
)
from coto.errors import CotoError


@dataclass(frozen=True)
class Shapley:
    """Shapley values in units of the score.

    Attributes:
        values: φ (players,).
        errors: Standard errors (players,); zero for an enumeration.
        total: v(all) − v(none), evaluated.
        total_error: Standard error of Σφ.
        evaluations: Different masks that were evaluated.
    """

    values: Array
    errors: Array
    total: float
    total_error: float
    evaluations: int

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

    Attributes:
        levels: Number of midpoints p = (l + ½)/levels.
        pairs: Antithetic pairs of subsets for each pair of levels p and 1 − p.
        seed: Of the subsets.
        jitter: Draw p uniformly around each midpoint rather than at it.
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


def required_masks(players: int, sampling: Sampling | None = None) -> Mask:
    """Every mask that :func:`shapley` will ask for, different and in lexicographic order.

    For evaluating them together, sharing what neighbours have in common.

    Args:
        players: number of players.
        sampling: as given to :func:`shapley`; None for an enumeration.
    """
    if sampling is None:
        _check_exact(players)
        return distinct(all_masks(players))
    subsets, _ = sampling.subsets(players)
    ends = np.array([[False] * players, [True] * players])
    return distinct(np.concatenate([_toggled(subsets).reshape(-1, players), ends]))


def shapley(value: Value, players: int, sampling: Sampling | None = None) -> Shapley:
    """Shapley values of a score.

    Args:
        value: the score of the model with the players of a mask; asked once per mask.
        players: number of players.
        sampling: how to sample; None to enumerate, with up to twelve players.

    Raises:
        CotoError: if there are no players, or too many to enumerate.
    """
    if players < 1:
        raise CotoError(f"shapley: players = {players}: expected 1 or more")
    return _enumerated(value, players) if sampling is None else _sampled(value, players, sampling)


def top_third_share(values: Array, layers: Array) -> float:
    """Share of Σφ that the highest third of the layers holds, as the paper quotes it.

    Args:
        values: φ (players,).
        layers: layer number of each player (players,); thirds count the layers that occur.
    """
    present = np.unique(layers)
    top = present[round(2 * len(present) / 3) :]
    return float(values[np.isin(layers, top)].sum() / values.sum())


def _enumerated(value: Value, players: int) -> Shapley:
    _check_exact(players)
    masks = all_masks(players)
    scores = values_of(value, masks)
    sizes, index = masks.sum(axis=1), np.arange(len(masks))
    # |S|! (n − |S| − 1)! / n! for subsets S without the player
    weights = [
        factorial(size) * factorial(players - size - 1) / factorial(players)
        for size in range(players)
    ]
    found = np.empty(players)
    for player in range(players):
        without = index[~masks[:, player]]
        gains = scores[without + 2**player] - scores[without]
        found[player] = gains @ np.take(weights, sizes[without])
    return Shapley(found, np.zeros(players), float(scores[-1] - scores[0]), 0.0, len(masks))


def _sampled(value: Value, players: int, sampling: Sampling) -> Shapley:
    subsets, weights = sampling.subsets(players)
    masks = _toggled(subsets)
    ends = np.array([[False] * players, [True] * players])
    rows = np.concatenate([masks.reshape(-1, players), ends])
    scores = values_of(value, rows)
    none, whole = scores[-2:]
    # (complement or not, level pairs, pairs, 1 + players): v(R), then v(R with i toggled)
    table = scores[:-2].reshape(masks.shape[:-1])
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
        evaluations=len(distinct(rows)),
    )


def _toggled(subsets: Mask) -> Mask:
    """Each subset and its complement, as they are and with each player toggled.

    (2, …, 1 + players, players) for subsets (…, players).
    """
    players = subsets.shape[-1]
    flips = np.vstack([np.zeros(players, dtype=bool), np.eye(players, dtype=bool)])
    return np.stack([subsets, ~subsets])[..., None, :] ^ flips


def _check_exact(players: int) -> None:
    if players > EXACT_PLAYERS:
        raise CotoError(
            f"shapley: players = {players} without sampling: expected at most {EXACT_PLAYERS}"
        )
