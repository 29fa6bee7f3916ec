import numpy as np
import pytest

from benchmarks.common.cost import (
    BlockCosts,
    block_costs,
    expected_active,
    expected_reached,
    predict,
)
from coto.method.schedule import Schedule
from coto.method.strategies import make_strategy


@pytest.mark.parametrize("blocks", [2, 6, 24])
@pytest.mark.parametrize("p", [0.1, 0.4, 1.0])
def test_expectations_are_those_of_the_masks_that_training_draws(blocks: int, p: float) -> None:
    strategy = make_strategy("coto", p0=p, p1=p)
    flags = np.array([strategy.flags(0, step, 4000, blocks) for step in range(4000)])
    lowest = flags.argmax(axis=1)
    assert flags.sum(1).mean() == pytest.approx(float(expected_active(p, blocks)), rel=0.04)
    assert (blocks - lowest).mean() == pytest.approx(float(expected_reached(p, blocks)), rel=0.04)


def test_what_costs_nothing_saves_nothing() -> None:
    assert predict(BlockCosts(1.0, 0.0, 0.0, 0.0), 12) == pytest.approx(1)
    always = Schedule(shape="constant")
    assert predict(BlockCosts(1.0, 0.5, 1.0, 0.5), 12, always) == pytest.approx(1)


def test_adapters_alone_cost_their_active_share() -> None:
    share = predict(BlockCosts(0.0, 1.0, 0.0, 1.0), 64)
    assert share == pytest.approx(0.6625, abs=0.002)


def test_the_saving_of_the_backward_pass_vanishes_with_depth() -> None:
    shares = [predict(BlockCosts(0.0, 0.0, 1.0, 0.0), blocks) for blocks in (6, 12, 24, 96)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.97


def test_costs_are_found_again_in_the_steps_that_they_make() -> None:
    costs, blocks = BlockCosts(5.0, 0.5, 4.0, 1.5), 6
    update = 0.3
    every = blocks * 5.5, blocks * 5.5, update
    lowest = blocks * 5.0 + 0.5, blocks * 4.0 + 1.5, update / blocks
    highest = blocks * 5.0 + 0.5, 5.5, update / blocks
    found = block_costs(blocks, every, lowest, highest)
    assert found.forward == pytest.approx(costs.forward)
    assert found.adapter_forward == pytest.approx(costs.adapter_forward)
    assert found.backward == pytest.approx(costs.backward)
    assert found.adapter_backward == pytest.approx(costs.adapter_backward + update / blocks)
    assert found.vanilla * blocks == pytest.approx(sum(every))


def test_one_block_does_not_tell_its_parts_apart() -> None:
    with pytest.raises(ValueError, match="blocks: got 1, expected 2 or more"):
        block_costs(1, (1, 1, 1), (1, 1, 1), (1, 1, 1))
