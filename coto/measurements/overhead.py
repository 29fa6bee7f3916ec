"""What a training step costs under each strategy, measured with the whole machine.

All strategies train their own copy of the model in one process, in turn, step by step on the same
batches, so that a drift of the machine's speed hits them alike. The steps are spread over the whole
schedule: their mean is the mean of a full training.
"""

import logging
from collections.abc import Iterator

from pydantic import Field

from coto.config import paths
from coto.config.models import Strategy, Suite
from coto.config.plan import Plan
from coto.measurements import base
from coto.measurements.train import (
    Learner,
    backbone_files,
    compute_of,
    learner,
    located,
    model_code,
    prototype_files,
    prototype_rows,
    training_rows,
)
from coto.models.settings import Training
from coto.registry import expected_one_of
from coto.settings import Model, Positive
from coto.tasks.registry import TASKS

log = logging.getLogger(__name__)

# The timed steps fall into this many interleaved blocks, each over the whole schedule and in equal
# parts for all strategies: repeated measurements, from which the report takes its interval.
_BLOCKS = 8


class Overhead(Model):
    """Training time, both arms interleaved in one process that has the machine's threads."""

    task: str | None = Field(None, description="Task whose batches are used. Null: the first.")
    steps: Positive = Field(40, description="Timed optimizer steps per arm, over the schedule.")
    batch_size: Positive | None = Field(None, description="Null: as in training.")


class Settings(Learner):
    """The strategies that are timed, each at its first learning rate."""

    strategies: dict[str, Strategy]
    learning_rates: dict[str, float]
    overhead: Overhead


def run(job: base.Job[Settings]) -> None:
    """Time optimizer steps of all strategies; ``seconds_per_step`` is a mean over the schedule."""
    from coto import record
    from coto.measurements.training import (
        Contestant,
        add_adapter,
        strategy_of,
        take_turns,
        total_steps,
    )
    from coto.method.loop import ProgressiveTraining
    from coto.models.base import load_model

    settings, task = job.settings, TASKS[job.settings.task]
    compute = compute_of(job, settings.loading)
    batch_size = settings.overhead.batch_size or settings.train.batch_size
    timed = settings.overhead.steps
    rows = training_rows(job, settings.suite, task, settings.shots, seed=0)
    total = total_steps(settings.train, len(rows), settings.shots)
    contestants = []
    for name, strategy in settings.strategies.items():
        model = load_model(located(job, settings.loading), compute, 0, job.root / ".cache")
        examples = prototype_rows(job, settings.loading, settings.suite, task.name)
        model.set_task(task, rows, examples)
        adapted = add_adapter(model, settings, seed=0).train()
        training = ProgressiveTraining(adapted, strategy_of(strategy), total, strategy.unit)
        lr, fast = settings.learning_rates[name], settings.train.fast
        contestants.append(Contestant(name, training, adapted, lr, fast))
    take_turns(contestants, model.training_set(task, rows), batch_size, timed, total, compute)
    results = []
    blocks = min(_BLOCKS, timed)
    for contestant in contestants:
        contestant.training.close()
        for block in range(blocks):
            seconds, active = contestant.means(block, blocks)
            results.append(
                {
                    **{"suite": settings.suite, "task": task.name, "adapter": settings.adapter},
                    "trained_on": task.name,
                    "strategy": contestant.name,
                    "block": block,
                    "seconds_per_step": seconds,
                    "steps": len(range(block, timed, blocks)),
                    "batch_size": batch_size,
                    "threads": job.threads,
                    "device": compute.name,
                    "hardware": record.environment()["hardware"],
                    "active_share": active,
                }
            )
        log.info("%s: %.4f s/step", contestant.name, contestant.means(0, 1)[0])
    job.write("overhead", results, compute.describe(job.threads))


def _task(plan: Plan, suite: str) -> str:
    return plan.suites[suite].need(Overhead).task or plan.suites[suite].tasks[0]


def _check(at: str, suite: Suite) -> Iterator[str]:
    section = suite.section(Overhead)
    if section is not None and section.task not in (None, *suite.tasks):
        expected = expected_one_of(str(section.task), suite.tasks)
        yield f"{at}.overhead.task = {section.task!r}: {expected}"


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    cfg, task = plan.suites[cell.suite], _task(plan, cell.suite)
    # What a run leaves behind has no part in a timed step.
    left_behind = ("snapshots", "gradients", "checkpoint_every")
    kept = {name: Training.model_fields[name].default for name in left_behind}
    return Settings(
        **learner(
            plan, cell.at(task=task), plan.training(cell.suite, task).model_copy(update=kept)
        ),
        strategies={name: plan.config.strategies[name] for name in cfg.strategies},
        learning_rates={
            name: float(plan.grid(cell.suite, cell.adapter, name)[0]) for name in cfg.strategies
        },
        overhead=cfg.need(Overhead),
    )


base.MEASUREMENTS.add(
    base.Measurement(
        name="overhead",
        summary="measure an adapter kind's training time",
        settings=Settings,
        section=Overhead,
        off="training time is not measured",
        outputs={"overhead": "{suite}/overhead/{adapter}.json"},
        columns={
            "overhead": base.Columns(
                {},  # repeated measurements
                {**base.ARM, "seconds_per_step": float, "steps": int, "batch_size": int}
                | {"threads": int, "device": str, "hardware": str, "active_share": float},
            )
        },
        check=_check,
        blocks=lambda plan, suite: base.all_blocks(suite, adapter=plan.suites[suite].adapters),
        build=_settings,
        inputs=lambda plan, cell: {
            "backbone": backbone_files(plan, cell.suite),
            "prototypes": prototype_files(plan, cell.suite, [_task(plan, cell.suite)]),
            "train": [paths.data(cell.suite, _task(plan, cell.suite), "train")],
        },
        code=model_code,
        run=run,
        alone=True,
    )
)
