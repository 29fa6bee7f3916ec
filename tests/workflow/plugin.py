"""One thing of each kind from outside the package, as a user of it would write them."""

from typing import Any

from coto.adapters.kinds import KINDS, Kind
from coto.measurements.base import (
    ARM,
    MEASUREMENTS,
    Cell,
    Columns,
    Job,
    Measurement,
    arm_blocks,
)
from coto.measurements.select import ArmSettings, arm_code, arm_inputs, arm_settings, trained
from coto.method.schedule import Schedule
from coto.method.strategies import Options, Strategy, strategy
from coto.operators.operator import operator, pruning
from coto.report.claim import CLAIMS, Claim
from coto.report.drawing import figure
from coto.report.tables import table
from coto.settings import Model
from coto.tasks.task import TASKS, Sources
from coto.tasks.text import TextTask

# --- a task -------------------------------------------------------------------------------------

TASKS.add(
    TextTask(
        name="parity",
        family="toy",
        summary="Is the number of words even?",
        source="made",
        code=f"{__name__}:build_parity",
        label_names=("odd", "even"),
    )
)


def build_parity(task: TextTask, sources: Sources) -> dict[str, Any]:
    """Sentences of one to eight words."""
    import pandas as pd

    counts = {"train": 64, "validation": 16, "test": 16}
    return {
        split: pd.DataFrame(
            {
                "text": [f"{split} {i} " + "word " * (i % 8) for i in range(count)],
                "label": [i % 2 for i in range(count)],
                "idx": range(count),
            }
        )
        for split, count in counts.items()
    }


# --- an adapter kind and a strategy -------------------------------------------------------------

KINDS.add(
    Kind(
        "loha",
        "LoHaConfig",
        parts={"w1_a": "hada_w1_a", "w1_b": "hada_w1_b", "w2_a": "hada_w2_a", "w2_b": "hada_w2_b"},
        delta=f"{__name__}:loha_delta",
        alpha="alpha",
        dropout="rank_dropout",
    )
)


def loha_delta(scaling: float, parts: Any, weight: Any) -> Any:
    """ΔW = s·(A₁B₁ ⊙ A₂B₂), of FedPara (Hyeon-Woo et al. 2022)."""
    return scaling * (parts.w1_a @ parts.w1_b) * (parts.w2_a @ parts.w2_b)


@strategy("coin")
def coin(options: Options) -> Strategy:
    """Every group trains with chance one half at every update."""
    return Strategy(schedule=Schedule("constant", p1=0.5))


# --- a merging operator and a pruning method ----------------------------------------------------


@operator("first", space="delta", settings={})
def merge_first(adapters: Any, weights: Any, base: Any) -> Any:
    """The first adapter alone."""
    from coto.adapters.delta import deltas
    from coto.operators.merge import Merged

    return Merged(deltas(adapters[0], base))


@pruning("sign-delta", space="delta")
def prune_negative(adapter: Any, change: Any, base: Any, sparsity: float, repeat: int) -> Any:
    """Negative entries of ΔW go, whatever the sparsity."""
    return {name: matrix.clamp(min=0) for name, matrix in change.items()}


# --- a measurement, its table and figure, and a claim -------------------------------------------


class Norms(Model):
    """Norm of ΔW of every run."""


class NormSettings(ArmSettings):
    """An arm's runs of one seed."""

    seed: int


def measure_norms(job: Job[NormSettings]) -> None:
    """Write the norm of every run's ΔW."""
    from coto.adapters.delta import deltas
    from coto.measurements.evaluation import Evaluator

    settings, evaluator = job.settings, Evaluator(job)
    rows = []
    for task in settings.tasks:
        adapter = job.adapter(trained(job, task, settings.seed))
        change = deltas(adapter, evaluator.weights(list(adapter.modules)))
        norm = sum(float(matrix.norm() ** 2) for matrix in change.values()) ** 0.5
        arm = {**settings.arm, "trained_on": task, "task": task}
        rows.append({**arm, "seed": settings.seed, "value": norm})
    job.write("norms", rows)


def _settings(plan: Any, cell: Cell) -> NormSettings:
    return NormSettings(**arm_settings(plan, cell), seed=int(cell.seed))


MEASUREMENTS.add(
    Measurement(
        name="norms",
        summary="measure the norm of ΔW",
        settings=NormSettings,
        section=Norms,
        off="norms are not measured",
        outputs={"norms": "{suite}/norms/{adapter}-{strategy}/seed{seed}.json"},
        columns={"norms": Columns({**ARM, "seed": int}, {"value": float})},
        blocks=lambda plan, suite: arm_blocks(plan, suite, seed=plan.suites[suite].seeds),
        build=_settings,
        inputs=lambda plan, cell: arm_inputs(plan, cell, [cell.seed]),
        code=arm_code,
        run=measure_norms,
    )
)


@table("norms", needs=("norms",))
def norms_table(frames: Any, settings: Any, style: Any) -> Any:
    """Norm of ΔW of every run."""
    from coto.report.writing import Table

    rows = frames["norms"]
    return Table("Norms", rows, rows[["adapter", "strategy", "value"]], ())


@figure("norms", needs=("norms",))
def norms_figure(frames: Any, strategies: Any, settings: Any) -> Any:
    """Norm of ΔW by strategy."""
    from coto.report.drawing import new_figure

    drawn = new_figure(3.0, 2.0)
    drawn.subplots().bar(frames["norms"]["strategy"], frames["norms"]["value"])
    return drawn


CLAIMS.add(
    Claim(
        name="smaller-norms",
        statement="CoTo's ΔW are smaller.",
        test="Norm of ΔW, CoTo minus vanilla.",
        table="norms",
        rows="",
        family="balance",
        quantity=lambda frames: frames["norms"],
        records=("norms",),
        direction=-1,
        fixed_margin=1.0,
    )
)
