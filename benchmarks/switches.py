"""What each way to save time in training is worth: ``python -m benchmarks switches``.

This project's training with all of them against itself with one switched off, and with none, on the
cases of :mod:`benchmarks.peers`. A ratio of 1.1 says that training takes 1.1 times as long without.
"""

from typing import Literal

from pydantic import Field

from benchmarks.common import project
from benchmarks.common.harness import BENCHMARKS, Bench, Benchmark, Row, alternate
from benchmarks.common.steps import PLAIN
from benchmarks.peers import CASES, Case, ours_of, prepare
from coto import device
from coto.models.settings import Fast
from coto.settings import Model


class Settings(Model):
    """What is trained."""

    cases: dict[str, Case] = Field(CASES, description="What is trained, by name.")
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")


def run(bench: Bench[Settings]) -> list[Row]:
    """Rows of each case and precision: every switch, then all of them."""
    found = []
    for name, case in bench.settings.cases.items():
        plan, rows = prepare(case, bench.folder)
        for precision in bench.settings.precisions:
            compute = device.resolve(bench.compute.device.type, precision)
            settings = {"all": Fast()}
            settings |= {f"without {one}": Fast(**{one: False}) for one in Fast.model_fields}
            settings["without all"] = PLAIN
            usual = project.run(plan, case.suite, case.task)
            ways = {
                way: ours_of(plan, project.with_fast(usual, fast), rows, compute)
                for way, fast in settings.items()
            }
            timings = alternate(ways, bench.rounds)
            label = f"{name}, {precision}"
            found += [timings.row(label, way, "all") for way in ways if way != "all"]
    return found


BENCHMARKS.add(
    Benchmark(
        name="switches",
        summary="training with one way to save time switched off, and with none",
        settings=Settings,
        quick={
            "cases": {
                "text, 8 rows": {"suite": "glue", "task": "movies", "batch": 8, "steps": 6},
                "images, 32": {"suite": "images", "task": "digits", "batch": 32, "steps": 6},
            }
        },
        run=run,
    )
)
