import statistics
import time

import numpy as np
import pytest
import torch

from benchmarks.common.harness import Ratio, Timings, alternate, peak_memory
from tests.benchmarks.conftest import CPU


def work(amount: int) -> float:
    """Seconds of this thread on the processor: other work beside does not count."""
    begun = time.thread_time()
    sum(range(amount))
    return time.thread_time() - begun


def test_a_way_against_itself_is_one_within_the_interval() -> None:
    noise = np.random.default_rng(0)
    drifting = {name: lambda: float(noise.lognormal(0, 0.1)) for name in ("one", "same")}
    ratio = alternate(drifting, rounds=15).ratio("one", "same")
    assert ratio.low < 1 < ratio.high
    assert ratio.median == pytest.approx(1, abs=0.1)


def test_twice_the_work_takes_about_twice_as_long() -> None:
    ways = {"whole": lambda: work(2_000_000), "half": lambda: work(1_000_000)}
    assert 1.5 < alternate(ways, rounds=7).ratio("whole", "half").median < 2.7


def test_a_machine_that_slows_down_changes_no_ratio() -> None:
    slower = [1.0, 1.5, 2.0, 4.0, 8.0, 9.0, 12.0]
    timings = Timings({"a": [3 * s for s in slower], "b": [2 * s for s in slower]})
    assert timings.ratio("a", "b") == Ratio(1.5, 1.5, 1.5)


def test_every_way_runs_once_a_round_and_each_begins_in_turn() -> None:
    calls: list[str] = []
    ways = {name: lambda name=name: calls.append(name) for name in "abc"}
    timings = alternate(ways, rounds=3)
    rounds = ["".join(calls[at : at + 3]) for at in range(0, 12, 3)]
    assert rounds == ["cab", "abc", "bca", "cab"]
    assert {name: len(seconds) for name, seconds in timings.seconds.items()} == dict.fromkeys(
        "abc", 3
    )


@pytest.mark.parametrize(("count", "known"), [(5, False), (6, True), (7, True), (9, True)])
def test_an_interval_needs_six_rounds_and_encloses_the_median(count: int, known: bool) -> None:
    values = [float(v) for v in range(1, count + 1)]
    ratio = Ratio.of(values)
    assert ratio.median == statistics.median(values)
    assert (ratio.low is not None) == known
    if count in (6, 7):  # so few that only all of them enclose it 95 times of 100
        assert (ratio.low, ratio.high) == (1, count)
    if count == 9:
        assert (ratio.low, ratio.high) == (2, 8)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    found = [Ratio.of(draw.exponential(size=11).tolist()) for _ in range(300)]
    covered = np.mean([r.low <= np.log(2) <= r.high for r in found])
    assert covered > 0.95


def test_peak_memory_is_what_a_call_holds_at_a_time() -> None:
    kept = torch.ones(250_000)  # 1 MB, there before

    def two_at_a_time() -> None:
        for _ in range(3):
            first = kept * 2
            second = first * 2
            del first, second

    assert peak_memory(two_at_a_time, CPU) == pytest.approx(2, abs=0.1)
    assert peak_memory(lambda: kept * 2, CPU) == pytest.approx(1, abs=0.1)
