"""How many seeds would decide: variance components and forecasts with known answers."""

import math

import numpy as np
import pytest
from scipy import stats

from coto.report.claim import MOST_SEEDS, components, seeds_to_decide

Z = 1.959963984540054


def simulated(
    rng: np.random.Generator, tasks: int, seeds: int, *, mean: float, spread: tuple[float, ...]
) -> np.ndarray:
    task, seed, rest = spread
    parts = rng.normal(0, task, (tasks, 1)), rng.normal(0, seed, (1, seeds))
    return mean + parts[0] + parts[1] + rng.normal(0, rest, (tasks, seeds))


def test_components_by_hand() -> None:
    # Row means 1 and 3, column means 1, 2 and 3: additive, so that nothing is left over.
    found = components(np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]))
    assert (found.task, found.seed, found.residual) == (2.0, 1.0, 0.0)
    # Only interaction: the other two estimates are below 0.
    found = components(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    assert (found.task, found.seed, found.residual) == (0.0, 0.0, 4.0)
    alone = components(np.array([[0.1, 0.4, 0.4]]))
    assert (alone.task, alone.seed, alone.residual) == pytest.approx((0, 0.03, 0))


def test_components_are_unbiased() -> None:
    rng = np.random.default_rng(1)
    grids = [simulated(rng, 6, 5, mean=1, spread=(3, 2, 1)) for _ in range(800)]
    found = np.array([[c.task, c.seed, c.residual] for c in map(components, grids)])
    assert found.mean(0) == pytest.approx([9, 4, 1], rel=0.12)


def test_seeds_by_hand() -> None:
    # One task: the interval is mean ± z · 2 / √S around 1, so that S > (2 z)² excludes 0.
    grid = np.array([[-1.0, 3.0, 1.0, 1.0 + math.sqrt(2), 1.0 - math.sqrt(2)]])
    assert grid.var(ddof=1) == pytest.approx(3)
    found = seeds_to_decide(grid, margin=0.5)
    assert found.count == math.ceil(3 * Z**2)
    # A claim in the other direction: the whole interval lies below the margin, sooner.
    assert seeds_to_decide(grid, margin=0.5, direction=-1).count == math.ceil(
        3 * (Z / (1 + 0.5)) ** 2
    )
    # Half-way to the margin it is settled by excluding either.
    assert seeds_to_decide(grid, margin=2.5).count == math.ceil(3 * (Z / 1.5) ** 2)


def test_pairs_must_be_able_to_give_the_p_of_the_family() -> None:
    grid = np.array([[1.0, 1.001, 0.999]])
    for tests in (1, 5, 20):
        least = next(s for s in range(4, 99) if 2.0 ** (1 - s) < 0.05 / tests)
        assert seeds_to_decide(grid, margin=0.1, tests=tests).count == least
    # Pairs of seeds: six of them need four seeds.
    assert seeds_to_decide(grid, margin=0.1, in_pairs=True).count == 4


def test_a_larger_family_needs_more_seeds() -> None:
    grid = np.array([[-1.0, 3.0, 1.0, 0.0, 2.0]])
    counts = [seeds_to_decide(grid, margin=0.5, tests=tests).count for tests in (1, 3, 9)]
    assert counts == sorted(counts)
    expected = stats.norm.isf(0.05 / 9 / 2) ** 2 * grid.var(ddof=1)
    assert counts[-1] == math.ceil(expected)


def test_what_no_number_of_seeds_decides() -> None:
    wide = np.array([[3.0, 3.1], [-2.8, -2.9], [0.4, 0.5]])
    assert "more tasks" in seeds_to_decide(wide, margin=1.0).reason
    one = np.array([[0.3], [0.1]])
    assert "fewer than two seeds" in seeds_to_decide(one, margin=1.0).reason
    holes = np.array([[0.3, np.nan], [np.nan, 0.1]])
    assert "fewer than two seeds" in seeds_to_decide(holes, margin=1.0).reason
    assert "pairs of seeds" in seeds_to_decide(one, margin=1.0, in_pairs=True).reason
    assert "do not differ" in seeds_to_decide(np.zeros((2, 2)), margin=1.0).reason
    noise = np.array([[-9.0, 9.01]])
    assert seeds_to_decide(noise, margin=0.001).reason == f"more than {MOST_SEEDS}"


def test_missing_seeds_are_left_out() -> None:
    grid = np.array([[0.5, -0.2, 0.9, 7.0], [0.4, 0.1, 0.6, np.nan]])
    assert seeds_to_decide(grid, margin=0.01) == seeds_to_decide(
        np.hstack([grid[:, :3], np.full((2, 1), np.nan)]), margin=0.01
    )


def test_the_forecast_holds_in_simulation() -> None:
    """With so many seeds, the interval excludes 0 in half of the runs: today's estimate is true."""
    rng = np.random.default_rng(5)
    pilot = simulated(rng, 4, 5, mean=0, spread=(0, 1, 1))
    pilot -= pilot.mean(1, keepdims=True)
    found = components(pilot)
    assert found.task == 0
    pilot *= math.sqrt((1 + 1 / 4) / (found.seed + found.residual / 4))
    count = seeds_to_decide(0.6 + pilot, margin=0.1).count
    assert count == math.ceil((1 + 1 / 4) * (Z / 0.6) ** 2)
    decided = 0
    for _ in range(400):
        means = simulated(rng, 4, count, mean=0.6, spread=(0, 1, 1)).mean(0)
        decided += means.mean() - Z * means.std(ddof=1) / math.sqrt(count) > 0
    assert 0.4 <= decided / 400 <= 0.65
