"""What all benchmarks share: timing in turn, ratios with intervals, peak memory, records.

A benchmark is one file with one :class:`Benchmark`. It says which ways of doing one thing there
are; :func:`alternate` runs them in turn, and :meth:`Timings.row` puts one beside another. A machine
that slows down, or has other work beside, hits all ways of a round alike, so that ratios hold where
seconds do not.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from scipy.stats import quantile_test
from torch.profiler import ProfilerActivity, profile

from coto import record
from coto.device import Compute
from coto.registry import Registry
from coto.settings import Model

ROUNDS = 7
"""Repetitions that a median is taken of, unless the settings are reduced."""
CONFIDENCE = 0.95
Row = dict[str, Any]
"""A line of a record: texts and finite numbers, None where there is none."""
Way = Callable[[], float | None]
"""One repetition of one way; it returns seconds if it times only a part of itself."""
S = TypeVar("S", bound=Model)


@dataclass(frozen=True)
class Bench(Generic[S]):
    """What a benchmark is run with.

    Attributes:
        settings: sizes, as they are or reduced.
        compute: device and precision.
        rounds: repetitions of every timing.
        folder: where the benchmark may leave rows and models for the next one.
    """

    settings: S
    compute: Compute
    rounds: int
    folder: Path


@dataclass(frozen=True)
class Benchmark(Generic[S]):
    """A benchmark: its settings, those of them that ``--quick`` reduces, and what it does.

    `by_itself` says whether it needs neither a GPU nor the results of other runs; `precision` is
    that of matrix products, unless the user asks for another one.
    """

    name: str
    summary: str
    settings: type[S]
    run: Callable[[Bench[S]], list[Row]]
    quick: Mapping[str, Any] = field(default_factory=dict)
    by_itself: bool = True
    precision: str = "fp32"


BENCHMARKS: Registry[Benchmark[Any]] = Registry("benchmark")


@dataclass(frozen=True)
class Ratio:
    """A median over rounds, and an interval; the interval is None with fewer than six rounds."""

    median: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Ratio":
        """The median with the order statistics that enclose it 95 times of 100, whatever the law.

        The interval is scipy's inversion of the exact sign test. With seven rounds it goes from the
        least to the greatest value, with fewer than six there is none.
        """
        tested = quantile_test(values, q=0.0, p=0.5)
        found: Any = tested.confidence_interval(CONFIDENCE)
        low, high = float(found.low), float(found.high)
        known = low == low and high == high  # NaN: too few values
        return cls(statistics.median(values), low if known else None, high if known else None)


@dataclass(frozen=True)
class Timings:
    """Seconds of every way, one per round, in the order of the rounds."""

    seconds: Mapping[str, Sequence[float]]

    def per(self, counts: Mapping[str, int]) -> "Timings":
        """Seconds per item, of ways that do so many of them."""
        return Timings({way: [s / counts[way] for s in own] for way, own in self.seconds.items()})

    def ratio(self, way: str, against: str) -> Ratio:
        """Seconds of one way over those of another in the same round."""
        pairs = zip(self.seconds[way], self.seconds[against], strict=True)
        return Ratio.of([mine / theirs for mine, theirs in pairs])

    def row(self, case: str, way: str, against: str, **more: Any) -> Row:
        """A line of a record: how long one way takes, in shares of another one's time."""
        ratio, both = self.ratio(way, against), (self.seconds[way], self.seconds[against])
        return {
            **{"case": case, "way": way, "against": against},
            **{"ratio": ratio.median, "low": ratio.low, "high": ratio.high},
            "rounds": len(both[0]),
            "seconds": statistics.median(both[0]),
            "seconds_against": statistics.median(both[1]),
            **more,
        }


def alternate(ways: Mapping[str, Way], rounds: int) -> Timings:
    """Time every way once per round, after a round that does not count.

    Who begins changes from round to round: the first one of a round finds colder caches. A single
    round, which is a trial and not a measurement, has none before it.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for number in range(-1 if rounds > 1 else 0, rounds):
        shift = number % len(order)
        for name in order[shift:] + order[:shift]:
            seconds = timed(ways[name])
            if number >= 0:
                found[name].append(seconds)
    return Timings(found)


def timed(call: Way, compute: Compute | None = None) -> float:
    """Seconds that a call takes, or says that it took; waits for the device on both sides."""
    wait(compute)
    begun = time.perf_counter()
    told = call()
    wait(compute)
    return time.perf_counter() - begun if told is None else told


def wait(compute: Compute | None) -> None:
    """Wait until a GPU has done what it was asked to."""
    if compute is not None and compute.device.type == "cuda":
        torch.cuda.synchronize(compute.device)


def peak_memory(call: Callable[[], object], compute: Compute) -> float:
    """Most MB of tensors that a call holds at a time beyond those that were there before it.

    On a GPU by torch's allocator, on a CPU by the allocations that torch's profiler saw; what the
    allocators keep in reserve does not count.
    """
    if compute.device.type == "cuda":
        torch.cuda.synchronize(compute.device)
        before = torch.cuda.memory_allocated(compute.device)
        torch.cuda.reset_peak_memory_stats(compute.device)
        call()
        torch.cuda.synchronize(compute.device)
        return (torch.cuda.max_memory_allocated(compute.device) - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


def machine(compute: Compute, threads: int) -> Row:
    """What a record says of the machine besides what all records say of it."""
    flags = {
        "amx": torch.cpu._is_amx_tile_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
    }
    return {"flags": [name for name, there in flags.items() if there], **compute.describe(threads)}


def write(bench: Bench[Any], benchmark: Benchmark[Any], rows: list[Row], **more: Any) -> Path:
    """Write a benchmark's record to its folder, rounded to what was measured; returns its path."""
    path = bench.folder / f"{benchmark.name}.json"
    record.write(
        path,
        benchmark.name,
        bench.settings.model_dump(mode="json"),
        [_rounded(row) for row in rows],
        machine(bench.compute, torch.get_num_threads()),
        **more,
    )
    return path


def _rounded(row: Row) -> Row:
    return {
        key: float(f"{value:.5g}") if isinstance(value, float) else value
        for key, value in row.items()
    }
