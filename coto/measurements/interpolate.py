"""Two or three seeds of one arm merged: linear mode connectivity."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from pydantic import Field

from coto.config.plan import Plan
from coto.measurements import base
from coto.measurements.merge import (
    Merging,
    MergingSettings,
    OperatorName,
    merging_code,
    merging_settings,
)
from coto.measurements.select import arm_inputs, trained
from coto.settings import Model, Probability
from coto.tasks.registry import TASKS

if TYPE_CHECKING:
    from coto.models.base import Scores


class Interpolate(Model):
    """Merging of two or three seeds of one arm (linear mode connectivity)."""

    weights: tuple[Probability, ...] = Field(
        tuple(round(0.1 * i, 1) for i in range(11)),
        description="Weights of the second seed.",
    )
    operators: tuple[OperatorName, ...] = Field(
        ("fusion", "ensemble"),
        description="Operators at all weights. fusion averages A and B, ensemble averages ΔW.",
    )
    halfway: tuple[OperatorName, ...] = Field(
        (), description="Further operators, at equal weights only."
    )

    @property
    def names(self) -> list[str]:
        """All operators."""
        return list(dict.fromkeys([*self.operators, *self.halfway]))


class Settings(MergingSettings):
    """Which seeds are mixed, by which operators at which weights."""

    seeds: tuple[int, ...]
    interpolate: Interpolate


def run(job: base.Job[Settings]) -> None:
    """Score two seeds along the path of each operator, or three at their common mean.

    A path begins and ends at the runs themselves, whatever the operator. Heads are averaged with
    the same weights. ``weight`` is that of the last seed. Merges of low rank with equal weights lie
    in the folder of the record's name, if kept.
    """
    from coto.adapters.delta import deltas
    from coto.measurements.evaluation import Evaluator, Merger, keep_merged
    from coto.operators.merge import average_heads

    settings, evaluator = job.settings, Evaluator(job)
    label = "-".join(map(str, settings.seeds))
    merger = Merger(settings, {**settings.arm, "seeds": label})
    rows: list[dict[str, Any]] = []
    for task in settings.tasks:
        runs = [job.adapter(trained(job, task, seed)) for seed in settings.seeds]
        base = evaluator.weights(list(runs[0].modules))
        ends: dict[float, list[Scores]] = {}

        def note(name: str, weight: float, repeat: int, scores: "list[Scores]") -> None:
            line = f"{task}, {name}, weight {weight:.3g}"  # noqa: B023
            place = {"seeds": label, "operator": name, "weight": weight, "repeat": repeat}
            rows.extend(job.score_rows(TASKS[task], scores, line, **settings.arm, **place))  # noqa: B023

        for name, weights in _points(settings.interpolate, len(runs)):
            weight = weights[-1]
            if weight in (0, 1):
                if weight not in ends:
                    end = runs[-1] if weight else runs[0]
                    ends[weight] = evaluator.score(task, deltas(end, base), end.heads)
                note(name, weight, 0, ends[weight])
                continue
            heads = average_heads(runs, weights)
            for repeat, merged in merger.merges(name, runs, weights, base, task):
                note(name, weight, repeat, evaluator.score(task, merged.deltas, heads))
                if settings.save and not repeat and len(set(weights)) == 1:
                    folder = job.outputs["interpolate"].with_suffix("") / task / name
                    keep_merged(folder, merged, heads, settings.loading.backbone.hub)
    compute = evaluator.compute.describe(job.threads)
    job.write("interpolate", rows, compute, measured=merger.measured, gaps=merger.gaps)


def _points(section: Interpolate, seeds: int) -> Iterator[tuple[str, Sequence[float]]]:
    """Operators with the seeds' weights: along the path of two, in the centre of more."""
    centre = [1 / seeds] * seeds
    for name in section.operators:
        for weight in section.weights if seeds == 2 else [centre[-1]]:
            yield name, [1 - weight, weight] if seeds == 2 else centre
    for name in section.halfway:
        if name not in section.operators:
            yield name, centre


def _blocks(plan: Plan, suite: str) -> list[base.Block]:
    seeds = plan.suites[suite].seeds
    # Neighbours make the three-way mixes: all triples would soon be too many.
    mixes = [*combinations(seeds, 2), *zip(seeds[:-2], seeds[1:-1], seeds[2:], strict=True)]
    return base.arm_blocks(plan, suite, seeds=["-".join(map(str, mixed)) for mixed in mixes])


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    section = plan.suites[cell.suite].need(Interpolate)
    return Settings(
        **merging_settings(plan, cell, section.names),
        seeds=tuple(map(int, cell.seeds.split("-"))),
        interpolate=section,
    )


base.MEASUREMENTS.add(
    base.Measurement(
        name="interpolate",
        summary="merge two or three seeds of an arm",
        settings=Settings,
        section=Interpolate,
        off="seeds are not merged",
        shared={"merging": Merging},
        # A study asks for what the rebuttal shows of it: plain merging.
        in_study=lambda section: section.model_copy(
            update={"operators": ("fusion",), "halfway": ()}
        ),
        outputs={"interpolate": "{suite}/interpolate/{adapter}-{strategy}/seeds{seeds}.json"},
        columns={"interpolate": base.scores_by(seeds=str, operator=str, weight=float, repeat=int)},
        blocks=_blocks,
        build=_settings,
        inputs=lambda plan, cell: arm_inputs(plan, cell, cell.seeds.split("-")),
        code=lambda plan, cell: merging_code(
            plan, cell, plan.suites[cell.suite].need(Interpolate).names
        ),
        run=run,
    )
)
