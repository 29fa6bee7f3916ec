"""Where the time of a training step goes, before and after: ``python -m benchmarks step_profile``.

This project's training under torch's profiler, on PEFT's plain path and on the fast one. Time on
the processor is put into kinds of operators by their names; the rest of the wall time is Python,
the Trainer, and loading batches. The profiler itself costs time per operator: shares are for
finding what to work on, not for comparing.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Literal

from pydantic import Field
from torch.profiler import ProfilerActivity, profile

from benchmarks.common import project
from benchmarks.common.harness import BENCHMARKS, Bench, Benchmark, Row
from benchmarks.common.steps import PLAIN
from benchmarks.peers import CASES, Case, ours_of, prepare
from coto import device
from coto.models.settings import Fast
from coto.settings import Model

_KINDS = {
    "matrix products": r"aten::(mm|addmm|bmm|baddbmm|linear|matmul|mkldnn_.*|_scaled_dot.*)$",
    "softmax": r"aten::_(safe_)?(log_)?softmax",
    "activations": r"aten::(gelu|silu|relu|tanh)",
    "normalisation": r"aten::native_(layer_norm|group_norm)|aten::rsqrt",
    "optimizer": r"aten::_(fused|foreach)|aten::(lerp_|addcmul_|addcdiv_)|Optimizer",
    "copies and casts": r"aten::(copy_|_to_copy|clone|cat|stack|contiguous|fill_|zero_)$",
}


class Settings(Model):
    """What is trained."""

    case: Case = Field(CASES["text, 8 rows"], description="A task, and a batch.")
    precision: Literal["fp32", "bf16"] = "fp32"


def run(bench: Bench[Settings]) -> list[Row]:
    """A row for each kind of operator: milliseconds per step and shares, before and after."""
    case = bench.settings.case
    plan, rows = prepare(case, bench.folder)
    compute = device.resolve(bench.compute.device.type, bench.settings.precision)
    usual = project.run(plan, case.suite, case.task)
    spent: dict[str, dict[str, float]] = {}
    for name, fast in {"before": PLAIN, "after": Fast()}.items():
        train = ours_of(plan, project.with_fast(usual, fast), rows, compute)
        train()  # warm
        spent[name] = _profiled(train)
    totals = {name: sum(found.values()) for name, found in spent.items()}
    kinds = sorted(spent["before"], key=lambda kind: -spent["before"][kind])
    return [
        {
            "case": kind,
            **{
                f"ms_{name}": 1e3 * found.get(kind, 0.0) / case.steps
                for name, found in spent.items()
            },
            **{
                f"share_{name}": found.get(kind, 0.0) / totals[name]
                for name, found in spent.items()
            },
        }
        for kind in kinds
    ]


def _profiled(train: Callable[[], float]) -> dict[str, float]:
    """Seconds of a training by kind of operator."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        begun = time.perf_counter()
        train()
        wall = time.perf_counter() - begun
    spent: defaultdict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        spent[_kind(event.key)] += event.self_cpu_time_total / 1e6
    spent["outside of torch"] = max(0.0, wall - sum(spent.values()))
    return spent


def _kind(operator: str) -> str:
    named = (kind for kind, pattern in _KINDS.items() if re.match(pattern, operator))
    return next(named, "other operators")


BENCHMARKS.add(
    Benchmark(
        name="step_profile",
        summary="where the time of a training step goes, on the plain and on the fast path",
        settings=Settings,
        quick={"case": {"suite": "glue", "task": "movies", "batch": 8, "steps": 4}},
        run=run,
    )
)
