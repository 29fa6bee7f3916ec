"""Verdicts on drawn effects of which the truth is known: how often they are wrong."""

import doctest
import math
from pathlib import Path

import numpy as np
import pytest

from coto.report.statistics import p_values, standard_error
from tools.simulate_verdicts import LEVEL, World, components, effects, rates, worlds

RUNS = 800
# Three standard errors of a share of 5 % of so many runs.
TOLERANCE = 3 * math.sqrt(LEVEL * (1 - LEVEL) / RUNS)


def test_false_verdicts_are_rare_in_every_world() -> None:
    every = list(worlds())
    assert {world.tasks for world in every} >= {1, 3, 6}
    assert {world.seeds for world in every} == {3, 4, 6}
    found = np.array([rates(world, RUNS, 10 * i)[:2] for i, world in enumerate(every)])
    for world, wrong in zip(every, found, strict=True):
        assert (wrong <= LEVEL + TOLERANCE).all(), (world, wrong)
    assert (found.mean(0) < 0.03).all()  # half of the level, the side that would be false


def test_the_simulation_would_see_what_is_wrong() -> None:
    """Task and seed pairs taken as independent, as a test over pairs takes them."""
    world = World(tasks=6, seeds=3, spread="seeds alone")
    values = effects(world, 0.0, RUNS, np.random.default_rng(1))
    cells = np.repeat(values, world.tasks, axis=-1)
    p = p_values(cells.mean(-1), standard_error(cells), cells.shape[-1] - 1)
    assert (p < LEVEL).mean() > 4 * LEVEL
    # Pairs of seeds that share a seed, taken as independent.
    p = p_values(values.mean(-1), standard_error(values), world.seeds - 1)
    assert (p < LEVEL).mean() == pytest.approx(LEVEL, abs=2 * TOLERANCE)


def test_more_seeds_and_fewer_claims_decide_more() -> None:
    power = [rates(World(seeds=n, claims=m), RUNS)[2] for n, m in ((6, 1), (3, 1), (3, 6))]
    assert power == sorted(power, reverse=True)
    assert power[0] > power[-1] + 0.1


def test_the_example_of_the_docs_is_right() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "verdicts.md"
    found = doctest.testfile(str(page), module_relative=False)
    assert (found.failed, found.attempted > 5) == (0, True)


def test_components_by_hand() -> None:
    # Row means 1 and 3, column means 1, 2 and 3: additive, so that nothing is left over.
    additive = np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]])
    assert components(additive) == pytest.approx((math.sqrt(2), 1, 0))
    # Only interaction: the other two estimates are below 0.
    assert components(np.array([[1.0, -1.0], [-1.0, 1.0]])) == pytest.approx((0, 0, 2))
