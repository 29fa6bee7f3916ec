"""An arm's runs with subsets of their adapters: Shapley values, dropout stability, Theorem 3.1."""

import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from coto.config import paths
from coto.config.models import Suite
from coto.config.plan import Plan
from coto.measurements import base
from coto.measurements.select import ArmSettings, arm_code, arm_inputs, arm_settings, trained
from coto.settings import Model, Positive, Probability, Seed
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)


class Subnetworks(Model):
    """Scores with subsets of the adapters: Shapley values, dropout stability, Theorem 3.1."""

    tasks: tuple[str, ...] | None = Field(None, min_length=1, description="Null: all.")
    seeds: tuple[Seed, ...] | None = Field(None, min_length=1, description="Null: all.")
    rows: Positive | None = Field(
        None, description="Test rows used, of each evaluation set. Null: all."
    )
    players: Literal["block", "module"] = Field(
        "block", description="What contributes: a block's adapters together, or each adapter."
    )
    groups: Positive | None = Field(
        None, description="Neighbouring players are joined until so many are left. Null: never."
    )
    levels: Positive = Field(
        10,
        description="Probabilities of Shapley's integral. Up to 12 players all subsets are used.",
    )
    pairs: Annotated[int, Field(ge=2)] = Field(
        25, description="Antithetic pairs of subsets per pair of probabilities."
    )
    samples: Annotated[int, Field(ge=2)] = Field(
        50, description="Subsets at most of each size, for dropout stability."
    )
    keep_probabilities: tuple[Probability, ...] = Field(
        tuple(round(0.1 * i, 1) for i in range(11)),
        min_length=2,
        description="Chances q that a layer's adapter is kept.",
    )
    early_stop: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Share of the training after which CoTo is looked at as well (early-stopped).",
    )


class Settings(ArmSettings):
    """What is asked of the subsets, and the seed whose runs are asked."""

    seed: int
    subnetworks: Subnetworks


def run(job: base.Job[Settings]) -> None:
    """Analyse every run of one seed, and CoTo's as it was when it might have been stopped.

    Shapley values in loss are of *minus* the loss, so that help is positive.
    """
    from coto.adapters.delta import deltas
    from coto.analysis.shapley import Sampling
    from coto.analysis.subsets import Questions, sweep_subsets
    from coto.measurements.evaluation import Evaluator

    settings, section = job.settings, job.settings.subnetworks
    sampling = Sampling(section.levels, section.pairs)
    asked = Questions(
        section.players, section.groups, sampling, section.samples, section.keep_probabilities
    )
    evaluator = Evaluator(job, limit=section.rows)
    rows: list[dict[str, Any]] = []
    for task in settings.tasks:
        folder = trained(job, task, settings.seed)
        looks = {settings.strategy: folder}
        if section.early_stop is not None:
            early = paths.snapshot(folder, section.early_stop)
            looks[f"{settings.strategy}-early"] = early
        for strategy, where in looks.items():
            arm = {"suite": settings.suite, "adapter": settings.adapter, "seed": settings.seed}
            arm |= {"trained_on": TASKS[task].name, "strategy": strategy}
            adapter = job.adapter(where)
            change = deltas(adapter, evaluator.weights(list(adapter.modules)))
            sweep = sweep_subsets(
                lambda changes, sets: evaluator.sweep(task, dict(changes), adapter.heads, sets),  # noqa: B023
                change,
                settings.loading.backbone.projections,
                asked,
            )
            for index, name in enumerate(sweep.sets):
                place = {**arm, "task": name}
                count = {"evaluations": len(sweep.table)}
                rows += [{**place, **row, **count} for row in sweep.rows(index)]
            log.info("%s, %s: %d subsets", task, strategy, len(sweep.table))
    job.write("subnetworks", rows, evaluator.compute.describe(job.threads))


def _tasks(plan: Plan, suite: str) -> tuple[str, ...]:
    return plan.suites[suite].need(Subnetworks).tasks or plan.suites[suite].tasks


def _blocks(plan: Plan, suite: str) -> list[base.Block]:
    seeds = plan.suites[suite].need(Subnetworks).seeds
    return base.arm_blocks(plan, suite, seed=plan.suites[suite].seeds if seeds is None else seeds)


def _check(at: str, suite: Suite) -> Iterator[str]:
    if section := suite.section(Subnetworks):
        yield from base.unknown_values(f"{at}.subnetworks.tasks", section.tasks, suite.tasks)
        yield from base.unknown_values(f"{at}.subnetworks.seeds", section.seeds, suite.seeds)


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    section = plan.suites[cell.suite].need(Subnetworks)
    # What only says which jobs there are has no part in a job.
    changes = {"tasks": None, "seeds": None}
    if not plan.config.strategies[cell.strategy].kind.startswith("coto"):
        changes["early_stop"] = None
    return Settings(
        **arm_settings(plan, cell, *_tasks(plan, cell.suite)),
        seed=int(cell.seed),
        subnetworks=section.model_copy(update=changes),
    )


base.MEASUREMENTS.add(
    base.Measurement(
        name="subnetworks",
        summary="score subsets of the adapters of an arm's runs",
        settings=Settings,
        section=Subnetworks,
        off="no Shapley values, no dropout stability",
        outputs={"subnetworks": "{suite}/subnetworks/{adapter}-{strategy}/seed{seed}.json"},
        columns={
            "subnetworks": base.Columns(
                {
                    **base.ARM,
                    "seed": int,
                    "analysis": str,
                    "measure": str,
                    "player": str,
                    "x": float,
                },
                {"stack": str, "layer": int, "projection": str}
                | {"value": float, "error": float, "evaluations": int},
            )
        },
        check=_check,
        blocks=_blocks,
        build=_settings,
        inputs=lambda plan, cell: arm_inputs(plan, cell, [cell.seed], _tasks(plan, cell.suite)),
        code=arm_code,
        run=run,
    )
)
