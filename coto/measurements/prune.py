"""Trained runs with parts of their adapters removed, without training them again."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from coto.config.models import Suite
from coto.config.plan import Plan
from coto.errors import CotoError
from coto.measurements import base
from coto.measurements.select import ArmSettings, arm_code, arm_inputs, arm_settings, trained
from coto.operators.keep import KEEP
from coto.operators.operator import PRUNING
from coto.registry import OneOf
from coto.settings import Model, Positive
from coto.tasks.registry import TASKS

if TYPE_CHECKING:
    from coto.models.base import Scores

log = logging.getLogger(__name__)


class Unstructured(Model):
    """Unstructured pruning: the entries of A and B, or of ΔW, that are set to zero."""

    methods: tuple[Annotated[str, OneOf(PRUNING)], ...] = Field(
        (
            *("magnitude-factors-global", "magnitude-factors-layer", "magnitude-delta-global"),
            *("magnitude-delta-layer", "random-factors-global"),
        ),
        min_length=1,
        description="What goes first, of what, and ranked over all layers or within each.",
    )
    sparsities: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
        min_length=2,
        description="Shares of the entries that go, ascending.",
    )
    repeats: Positive = Field(3, description="Draws of random pruning.")


class Prune(Model):
    """Pruning without retraining."""

    keep: tuple[Annotated[str, OneOf(KEEP)], ...] = Field(
        ("all", "odd", "even", "low", "middle", "high", "query", "key", "value"),
        description="Which adapters stay: alternate layers, a third of the layers, one projection.",
    )
    unstructured: Unstructured | None = Field(
        default_factory=Unstructured, description="Null: only whole adapters are removed."
    )


class Settings(ArmSettings):
    """Ways of pruning, and the seed whose runs are pruned."""

    seed: int
    prune: Prune


def run(job: base.Job[Settings]) -> None:
    """Score every run of one seed for every way of pruning.

    ``sparsity`` is the share of the adapters, or of their entries, that went.
    """
    from coto.adapters.delta import deltas
    from coto.measurements.evaluation import Evaluator
    from coto.operators.keep import kept

    settings, evaluator = job.settings, Evaluator(job)
    arm, section = {**settings.arm, "seed": settings.seed}, settings.prune
    rows: list[dict[str, Any]] = []
    gaps: list[dict[str, str]] = []
    for task in settings.tasks:
        adapter = job.adapter(trained(job, task, settings.seed))
        base = evaluator.weights(list(adapter.modules))
        change, total = deltas(adapter, base), len(adapter.modules)

        def note(scores: "list[Scores]", label: str, stay: int, **place: Any) -> None:
            place |= {"adapters_kept": stay, "adapters_total": total}  # noqa: B023
            label = f"{task}, {label}"  # noqa: B023
            rows.extend(job.score_rows(TASKS[task], scores, label, **arm, **place))  # noqa: B023

        stays = [kept(change, keep, settings.loading.backbone.projections) for keep in section.keep]
        swept = evaluator.masked(task, change, adapter.heads, stays)
        for keep, stay, scores in zip(section.keep, stays, swept, strict=True):
            place = {"method": "structured", "keep": keep, "repeat": 0}
            note(scores, f"keep {keep}", len(stay), **place, sparsity=1 - len(stay) / total)
        if section.unstructured is None:
            continue
        whole = dict(zip(section.keep, swept, strict=True)).get("all")
        whole = whole or evaluator.score(task, change, adapter.heads)
        for name in section.unstructured.methods:
            method = PRUNING[name]
            try:
                method.check_kind(adapter.kind)
            except CotoError as error:
                log.warning("%s", error)
                gaps.append({**settings.arm, "method": name, "reason": str(error)})
                continue
            for repeat in range(section.unstructured.repeats if method.draws else 1):
                for sparsity in section.unstructured.sparsities:
                    scores = whole
                    if sparsity:
                        sparse = method(adapter, change, base, sparsity, repeat)
                        scores = evaluator.score(task, sparse, adapter.heads)
                    place = {"method": name, "keep": "all", "repeat": repeat}
                    label = f"{name}, sparsity {sparsity:g}"
                    note(scores, label, total, **place, sparsity=sparsity)
    job.write("prune", rows, evaluator.compute.describe(job.threads), gaps=gaps)


def _check(at: str, suite: Suite) -> Iterator[str]:
    section = suite.section(Prune)
    sparse = section.unstructured if section else None
    if sparse is not None and list(sparse.sparsities) != sorted(set(sparse.sparsities)):
        yield (
            f"{at}.prune.unstructured.sparsities = {list(sparse.sparsities)}: "
            "expected different values in ascending order"
        )


def _code(plan: Plan, cell: base.Cell) -> list[str]:
    sparse = plan.suites[cell.suite].need(Prune).unstructured
    methods = [PRUNING[name].code for name in sparse.methods] if sparse else []
    looked_up = ("coto.operators.operator:PruningMethod", "coto.operators:KEEP.add")
    return [*arm_code(plan, cell), *looked_up, *methods]


base.MEASUREMENTS.add(
    base.Measurement(
        name="prune",
        summary="prune an arm's runs without retraining",
        settings=Settings,
        section=Prune,
        off="no pruning",
        in_study=lambda section: section.model_copy(update={"unstructured": None}),
        check=_check,
        outputs={"prune": "{suite}/prune/{adapter}-{strategy}/seed{seed}.json"},
        columns={
            "prune": base.Columns(
                {**base.ARM, "seed": int, "method": str, "keep": str, "sparsity": float}
                | {"repeat": int, "metric": str},
                {"adapters_kept": int, "adapters_total": int, **base.SCORE},
            )
        },
        blocks=lambda plan, suite: base.arm_blocks(plan, suite, seed=plan.suites[suite].seeds),
        build=lambda plan, cell: Settings(
            **arm_settings(plan, cell),
            seed=int(cell.seed),
            prune=plan.suites[cell.suite].need(Prune),
        ),
        inputs=lambda plan, cell: arm_inputs(plan, cell, [cell.seed]),
        code=_code,
        run=run,
    )
)
