"""The adapters of all tasks of a suite merged into one, and what all merging has in common."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field

from coto.config.models import Suite
from coto.config.plan import Plan
from coto.errors import CotoError
from coto.measurements import base
from coto.measurements.select import ArmSettings, arm_code, arm_inputs, arm_settings, trained
from coto.operators.operator import OPERATORS
from coto.registry import OneOf
from coto.settings import Model, Positive
from coto.tasks.registry import TASKS

OperatorName = Annotated[str, OneOf(OPERATORS)]


class Merging(Model):
    """Merging operators, wherever a suite merges."""

    settings: dict[OperatorName, dict[str, bool | int | float | str | None]] = Field(
        default_factory=dict,
        description="Settings by operator that are not the operator's own (docs/operators.md).",
    )
    repeats: Positive = Field(
        5, description="Seeds that an operator which draws, such as LoRA-LEGO, is repeated with."
    )
    save: bool = Field(
        True, description="Whether merges of low rank are kept as ordinary PEFT adapters."
    )


class Merge(Model):
    """Merging the suite's tasks into one adapter; each task keeps its head."""

    operators: tuple[OperatorName, ...] = Field(
        tuple(OPERATORS), min_length=1, description="Merging operators."
    )
    weights: dict[str, float] | None = Field(
        None, description="Weight per task. Null: 1/number of tasks."
    )
    different_seeds: bool = Field(
        False,
        description="Whether tasks are merged with a seed of their own each as well: runs of one "
        "seed begin with the same A, which flatters averages of factors.",
    )


class MergingSettings(ArmSettings):
    """An arm, and operators with all their settings."""

    operators: dict[str, dict[str, Any]]
    repeats: int
    save: bool


class Settings(MergingSettings):
    """Which tasks are merged, and with what weights.

    `seeds` are those of the tasks, in order: equal ones, and different ones if asked for.
    """

    seed: int
    seeds: dict[str, tuple[int, ...]]
    weights: tuple[float, ...]


def run(job: base.Job[Settings]) -> None:
    """Score the merge by each operator on every task, each with its own head.

    Merges of low rank lie in the folder of the record's name, if kept.
    """
    from coto.measurements.evaluation import ALL_TASKS, Evaluator, Merger, keep_merged

    settings, evaluator = job.settings, Evaluator(job)
    merger = Merger(settings, {**settings.arm, "seeds": str(settings.seed)})
    rows: list[dict[str, Any]] = []
    for kind, seeds in settings.seeds.items():
        adapters = {
            task: job.adapter(trained(job, task, seed))
            for task, seed in zip(settings.tasks, seeds, strict=True)
        }
        base = evaluator.weights(list(adapters[settings.tasks[0]].modules))
        label = ALL_TASKS if kind == SAME else f"{ALL_TASKS}, {kind} seeds"
        for name in settings.operators:
            merges = merger.merges(name, list(adapters.values()), settings.weights, base, label)
            for repeat, merged in merges:
                if settings.save and not repeat and kind == SAME:
                    folder = job.outputs["merge"].with_suffix("") / name
                    keep_merged(folder, merged, {}, settings.loading.backbone.hub)
                for task in settings.tasks:
                    scores = evaluator.score(task, merged.deltas, adapters[task].heads)
                    place = {"seed": settings.seed, "operator": name, "repeat": repeat}
                    place |= {"seeds": kind, "merged_tasks": len(settings.tasks)}
                    place |= settings.arm
                    rows += job.score_rows(TASKS[task], scores, f"{name}, {task}", **place)
    compute = evaluator.compute.describe(job.threads)
    job.write("merge", rows, compute, measured=merger.measured, gaps=merger.gaps)


SAME, DIFFERENT = "same", "different"


def merging_settings(plan: Plan, cell: base.Cell, names: Iterable[str]) -> dict[str, Any]:
    """Settings of a :class:`MergingSettings` that uses these operators."""
    merging = plan.suites[cell.suite].need(Merging)
    return {
        **arm_settings(plan, cell),
        "operators": {n: OPERATORS[n].resolved(merging.settings.get(n, {})) for n in names},
        "repeats": merging.repeats,
        "save": merging.save,
    }


def merging_code(plan: Plan, cell: base.Cell, names: Iterable[str]) -> list[str]:
    """Code of a job that uses these operators, besides the measurement itself."""
    operators = (OPERATORS[name].code for name in names)
    return [*arm_code(plan, cell), "coto.operators.operator:Operator", *operators]


def _blocks(plan: Plan, suite: str) -> list[base.Block]:
    cfg = plan.suites[suite]
    return base.arm_blocks(plan, suite, seed=cfg.seeds) if len(cfg.tasks) > 1 else []


def _seeds(plan: Plan, cell: base.Cell) -> dict[str, tuple[int, ...]]:
    """Seeds of the tasks: the cell's for all; and from the cell's on in turn, if asked for."""
    cfg, count = plan.suites[cell.suite], len(plan.suites[cell.suite].tasks)
    seeds = {SAME: (int(cell.seed),) * count}
    if cfg.need(Merge).different_seeds:
        start = cfg.seeds.index(int(cell.seed))
        seeds[DIFFERENT] = tuple(cfg.seeds[(start + i) % len(cfg.seeds)] for i in range(count))
    return seeds


def _check(at: str, suite: Suite) -> Iterator[str]:
    section = suite.section(Merge)
    for name, settings in suite.need(Merging).settings.items():
        try:
            OPERATORS[name].resolved(settings)
        except CotoError as error:
            yield f"{at}.merging.settings.{name}: {error}"
    weights = section.weights if section else None
    if weights is not None and set(weights) != set(suite.tasks):
        expected = f"expected one weight for each of {', '.join(suite.tasks)}"
        yield f"{at}.merge.weights = {weights}: {expected}"


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    section, tasks = plan.suites[cell.suite].need(Merge), plan.suites[cell.suite].tasks
    given = section.weights or {}
    return Settings(
        **merging_settings(plan, cell, section.operators),
        seed=int(cell.seed),
        seeds=_seeds(plan, cell),
        weights=tuple(given.get(task, 1 / len(tasks)) for task in tasks),
    )


base.MEASUREMENTS.add(
    base.Measurement(
        name="merge",
        summary="merge all tasks of a suite",
        settings=Settings,
        section=Merge,
        off="no multi-task merging",
        shared={"merging": Merging},
        check=_check,
        outputs={"merge": "{suite}/merge/{adapter}-{strategy}/seed{seed}.json"},
        columns={
            "merge": base.scores_by(seed=int, seeds=str, operator=str, merged_tasks=int, repeat=int)
        },
        blocks=_blocks,
        build=_settings,
        inputs=lambda plan, cell: arm_inputs(
            plan, cell, sorted({seed for seeds in _seeds(plan, cell).values() for seed in seeds})
        ),
        code=lambda plan, cell: merging_code(
            plan, cell, plan.suites[cell.suite].need(Merge).operators
        ),
        run=run,
    )
)
