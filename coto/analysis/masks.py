"""Which players are kept: masks, and value functions that are asked only once per mask."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""(players,): True where the player, such as an adapter or a layer, is kept."""
Value = Callable[[Mask], float]
"""A score, such as accuracy or minus the loss, of the model with these players."""

EXACT_PLAYERS = 12
"""Up to so many players (4,096 masks) all subsets are enumerated."""


def all_masks(players: int) -> Mask:
    """(2^players, players): every subset; row m keeps player i where bit i of m is set."""
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)


def distinct(masks: Mask) -> Mask:
    """Different rows in lexicographic order: neighbours agree on the players that come first."""
    return np.unique(masks, axis=0)


def values_of(value: Value, masks: Mask) -> Array:
    """The value of each row, with one call per different row, in the order of :func:`distinct`."""
    rows, where = np.unique(masks, axis=0, return_inverse=True)
    found = np.array([value(row) for row in rows], dtype=float)
    return found[where.ravel()]
