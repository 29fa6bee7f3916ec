"""Seconds and memory of a step against depth, rank and batch: ``python -m benchmarks scaling``.

CoTo's saving at each depth is measured, and predicted from the costs of one block at the smallest
depth (:mod:`benchmarks.common.cost`).
"""

from collections.abc import Callable
from itertools import cycle
from statistics import median

import numpy as np
from pydantic import Field

from benchmarks.common import shapes
from benchmarks.common.cost import BlockCosts, block_costs, predict
from benchmarks.common.harness import BENCHMARKS, Bench, Benchmark, Row, alternate
from benchmarks.common.shapes import BertShape
from benchmarks.common.steps import Batch, Step, Stepper, whole_schedule
from coto.settings import Model, Positive


class Settings(Model):
    """What is varied, each with the rest as in the first value."""

    kind: str = "lora"
    shape: BertShape = BertShape()
    layers: tuple[Positive, ...] = (6, 12, 24, 48)
    ranks: tuple[Positive, ...] = (8, 2, 32, 128)
    batches: tuple[Positive, ...] = (8, 1, 4, 32)
    length: Positive = 64
    steps: Positive = Field(10, description="Steps of a round, over the whole schedule.")


def run(bench: Bench[Settings]) -> list[Row]:
    """Rows by depth, by rank, by batch; then CoTo's saving by depth."""
    settings = bench.settings
    deep = {layers: _stepper(bench, layers, settings.ranks[0]) for layers in settings.layers}
    usual = _batches(bench, settings.batches[0])
    rows = _compare("layers", {n: (s, usual) for n, s in deep.items()}, bench)
    base = deep[settings.layers[0]]
    wide = {rank: (_stepper(bench, settings.layers[0], rank), usual) for rank in settings.ranks}
    rows += _compare("rank", wide, bench)
    sized = {size: (base, _batches(bench, size)) for size in settings.batches}
    rows += _compare("batch", sized, bench)
    costs = _costs(base, usual, bench)
    for layers, stepper in deep.items():
        predicted = predict(costs, layers)
        found = whole_schedule("", {"plain": stepper}, usual, bench, settings.steps)
        rows += [
            {**row, "case": f"{layers} blocks", "x": layers, "predicted": predicted}
            for row in found
        ]
    return rows


def _stepper(bench: Bench[Settings], layers: int, rank: int) -> Stepper:
    settings = bench.settings
    shape = settings.shape.model_copy(update={"layers": layers})
    base = shapes.bert(shape, bench.compute)
    model = shapes.with_adapter(base, settings.kind, rank, shapes.BERT_LINEAR, ["classifier"])
    return Stepper(model, bench.compute)


def _batches(bench: Bench[Settings], size: int) -> list[Batch]:
    settings = bench.settings
    shape = settings.shape.vocabulary, size, settings.length
    return shapes.batches(*shape, bench.compute, causal=False)


def _compare(
    case: str, ways: dict[int, tuple[Stepper, list[Batch]]], bench: Bench[Settings]
) -> list[Row]:
    """Vanilla steps at every value against those at the first one; per step, not per example."""
    first = next(iter(ways))

    def step(value: int) -> Callable[[], float]:
        stepper, batches = ways[value]
        turns = cycle(batches)
        return lambda: stepper.step(next(turns), "vanilla").whole

    timings = alternate({f"{case} {value}": step(value) for value in ways}, bench.rounds)
    memory = {value: stepper.memory(own[0], "vanilla") for value, (stepper, own) in ways.items()}
    return [
        timings.row(
            case,
            f"{case} {value}",
            f"{case} {first}",
            x=value,
            memory_mb=memory[value],
            memory_mb_against=memory[first],
        )
        for value in ways
        if value != first
    ]


def _costs(stepper: Stepper, batches: list[Batch], bench: Bench[Settings]) -> BlockCosts:
    """Costs of a block, from the medians of steps with all, the lowest and the highest adapters."""
    total = stepper.blocks
    lowest, highest = np.arange(total) == 0, np.arange(total) == total - 1
    steps: dict[str, list[Step]] = {"every": [], "lowest": [], "highest": []}
    for number in range(-1, bench.rounds):
        batch = batches[number % len(batches)]
        round_ = {
            "every": stepper.step(batch, "vanilla"),
            "lowest": stepper.step(batch, "floor", lowest),
            "highest": stepper.step(batch, "floor", highest),
        }
        for name, step in round_.items() if number >= 0 else ():
            steps[name].append(step)
    medians = {
        name: (
            median(s.forward for s in found),
            median(s.backward for s in found),
            median(s.update for s in found),
        )
        for name, found in steps.items()
    }
    return block_costs(total, medians["every"], medians["lowest"], medians["highest"])


BENCHMARKS.add(
    Benchmark(
        name="scaling",
        summary="seconds and memory of a step by depth, rank and batch; CoTo's saving by depth",
        settings=Settings,
        quick={
            **{"layers": (6, 12, 24), "ranks": (8, 2, 128), "batches": (4, 1, 16)},
            **{"length": 32, "steps": 8},
        },
        run=run,
    )
)
