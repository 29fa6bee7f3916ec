"""A simple model of what CoTo saves: expected work of a step from the costs of one block.

Assumptions, each of which the measured curve beside it tests:

1. all blocks cost the same, and everything outside them nothing;
2. an adapter that is off costs nothing, forward, backward or in the update;
3. the backward pass ends at the lowest block with an active adapter;
4. no cost depends on the others, nor on the number of blocks.

The law of the masks is exact: independent draws with the schedule's probability, repeated until at
least one block is on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coto.method.schedule import Schedule

Floats = NDArray[np.float64]
_STEPS = 1000


@dataclass(frozen=True)
class BlockCosts:
    """Seconds that a block adds to a step: its frozen part and its adapters, forward and backward.

    The adapters' backward includes their update.
    """

    forward: float
    adapter_forward: float
    backward: float
    adapter_backward: float

    @property
    def vanilla(self) -> float:
        """Seconds of a block whose adapters are on."""
        return self.forward + self.adapter_forward + self.backward + self.adapter_backward


def expected_active(p: ArrayLike, blocks: int) -> Floats:
    """Expected number of active blocks, at chance p of each, given that at least one is."""
    p = np.asarray(p, dtype=np.float64)
    return np.asarray(blocks * p / (1 - (1 - p) ** blocks))


def expected_reached(p: ArrayLike, blocks: int) -> Floats:
    """Expected number of blocks from the lowest active one up, given that at least one is."""
    p = np.asarray(p, dtype=np.float64)
    below = np.arange(blocks)  # blocks under the lowest active one
    chances = p[..., None] * (1 - p[..., None]) ** below
    return np.asarray((chances * (blocks - below)).sum(-1) / (1 - (1 - p) ** blocks))


def predict(costs: BlockCosts, blocks: int, schedule: Schedule | None = None) -> float:
    """CoTo's time over a whole schedule as a share of vanilla training's."""
    p = (schedule or Schedule())(np.arange(_STEPS), _STEPS)
    adapters = costs.adapter_forward + costs.adapter_backward
    work = (
        blocks * costs.forward
        + expected_active(p, blocks) * adapters
        + expected_reached(p, blocks) * costs.backward
    )
    return float(work.mean() / (blocks * costs.vanilla))


def block_costs(
    blocks: int,
    every: tuple[float, float, float],
    lowest: tuple[float, float, float],
    highest: tuple[float, float, float],
) -> BlockCosts:
    """Costs of a block from three kinds of steps; ValueError below two blocks.

    Args:
        blocks: their number.
        every: seconds of the forward pass, backward pass and update with all adapters.
        lowest: the same with those of the lowest block alone.
        highest: the same with those of the highest block alone.
    """
    if blocks < 2:
        raise ValueError(f"blocks: got {blocks}, expected 2 or more")
    alone = (lowest[0] + highest[0]) / 2  # the forward pass with one block's adapters
    adapter_forward = max(0.0, (every[0] - alone) / (blocks - 1))
    backward = max(0.0, (lowest[1] - highest[1]) / (blocks - 1))
    return BlockCosts(
        forward=every[0] / blocks - adapter_forward,
        adapter_forward=adapter_forward,
        backward=backward,
        adapter_backward=max(0.0, every[1] / blocks - backward) + every[2] / blocks,
    )
