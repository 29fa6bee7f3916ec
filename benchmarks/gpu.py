"""CoTo's saving at the size of Llama-3-8B: ``python -m benchmarks gpu`` on a machine with a GPU.

Random weights in bf16, the paper's rank 32 on five projections of every block, 16 sequences of 256
tokens, with and without gradient checkpointing. A case that does not fit is a row that says so.
"""

import gc
import logging

import torch
from pydantic import Field

from benchmarks.common import shapes
from benchmarks.common.harness import BENCHMARKS, Bench, Benchmark, Row
from benchmarks.common.shapes import LlamaShape
from benchmarks.common.steps import PLAIN, Batch, Stepper, whole_schedule
from coto.models.settings import Fast
from coto.settings import Model, Positive

log = logging.getLogger(__name__)


class Settings(Model):
    """Shape of the model, of its adapters and of a batch."""

    kinds: tuple[str, ...] = ("lora", "dora", "hira")
    shape: LlamaShape = LlamaShape()
    rank: Positive = 32
    batch: Positive = 16
    length: Positive = 256
    steps: Positive = Field(12, description="Steps of a round, over the whole schedule.")
    checkpointing: tuple[bool, ...] = (False, True)


def run(bench: Bench[Settings]) -> list[Row]:
    """Rows of each kind without and with gradient checkpointing."""
    settings, compute = bench.settings, bench.compute
    size = settings.shape.vocabulary, settings.batch, settings.length
    batches = shapes.batches(*size, compute, causal=True)
    rows = []
    for kind in settings.kinds:
        for checkpointing in settings.checkpointing:
            case = f"{kind}, checkpointing" if checkpointing else kind
            try:
                rows += _case(case, kind, checkpointing, batches, bench)
            except torch.OutOfMemoryError:
                log.warning("%s: does not fit into the memory of %s", case, compute.name)
                rows.append(
                    {"case": case, "note": f"does not fit into the memory of {compute.name}"}
                )
            gc.collect()
            if compute.device.type == "cuda":
                torch.cuda.empty_cache()
    return rows


def _case(
    case: str, kind: str, checkpointing: bool, batches: list[Batch], bench: Bench[Settings]
) -> list[Row]:
    settings = bench.settings
    base = shapes.llama(settings.shape, bench.compute)
    if checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    model = shapes.with_adapter(base, kind, settings.rank, shapes.LLAMA_FIVE)
    rows = []
    # One after the other: two models of this size would not fit.
    for name, fast in (("", PLAIN), (", fast", Fast())):
        stepper = Stepper(model, bench.compute, fast)
        memory = stepper.memory(batches[0], "vanilla")
        # The floor is that of PEFT's own layers.
        label = f"{case}{name}"
        own = whole_schedule(
            label, {"": stepper}, batches, bench, settings.steps, floor=fast == PLAIN
        )
        stepper.close()
        rows += [{**row, "memory_mb_against": memory} for row in own]
    return rows


BENCHMARKS.add(
    Benchmark(
        name="gpu",
        summary="the same at Llama-3-8B's shapes, bf16; needs a GPU unless reduced",
        settings=Settings,
        quick={
            "shape": {"layers": 4, "width": 128, "heads": 4, "key_value_heads": 2}
            | {"mlp": 448, "vocabulary": 4096},
            **{"rank": 8, "batch": 4, "length": 64},
        },
        run=run,
        by_itself=False,
        precision="bf16",
    )
)
