"""What CoTo saves of the time of a training step: ``python -m benchmarks saving``.

Vanilla training and CoTo on one model, step by step on the same batches, over the whole schedule;
then single masks by number and position of the active blocks, the passes apart, with peak memory.
All on PEFT's own layers, and on the fast path (:mod:`coto.fast`), whose vanilla step stands against
the plain one.
The floor beside CoTo is what an implementation could reach on these layers: adapters that are off
cost nothing, and the backward pass ends at the lowest one that is on.
"""

from pydantic import Field

from benchmarks.common import shapes
from benchmarks.common.harness import BENCHMARKS, Bench, Benchmark, Row
from benchmarks.common.shapes import BertShape
from benchmarks.common.steps import PLAIN, Stepper, by_position, whole_schedule
from coto.models.settings import Fast
from coto.settings import Model, Positive


class Settings(Model):
    """Shape of the model, of its adapters and of a batch."""

    kinds: tuple[str, ...] = ("lora", "dora", "hira")
    shape: BertShape = BertShape()
    rank: Positive = 8
    batch: Positive = 32
    length: Positive = 64
    steps: Positive = Field(24, description="Steps of a round, over the whole schedule.")
    active: tuple[Positive, ...] = Field(
        (1, 2, 3, 4, 5), description="Numbers of active blocks, the lowest and the highest so many."
    )


def run(bench: Bench[Settings]) -> list[Row]:
    """Rows of each kind: the schedule, then the masks."""
    settings, compute = bench.settings, bench.compute
    size = settings.shape.vocabulary, settings.batch, settings.length
    batches = shapes.batches(*size, compute, causal=False)
    rows = []
    for kind in settings.kinds:
        plain, fast = (_stepper(kind, path, bench) for path in (PLAIN, Fast()))
        both = {"plain": plain, "fast": fast}
        rows += whole_schedule(kind, both, batches, bench, settings.steps)
        rows += by_position(kind, plain, batches, bench, settings.active)
        rows += by_position(f"{kind}, fast", fast, batches, bench, settings.active)
    return rows


def _stepper(kind: str, fast: Fast, bench: Bench[Settings]) -> Stepper:
    base = shapes.bert(bench.settings.shape, bench.compute)
    targets = shapes.BERT_LINEAR
    model = shapes.with_adapter(base, kind, bench.settings.rank, targets, ["classifier"])
    return Stepper(model, bench.compute, fast)


BENCHMARKS.add(
    Benchmark(
        name="saving",
        summary="CoTo's training step against vanilla's, and the floor",
        settings=Settings,
        quick={"batch": 8, "steps": 16, "active": (1, 3, 5)},
        run=run,
    )
)
