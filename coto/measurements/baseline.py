"""What a suite's tasks give without training, to read the trained scores by."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from coto.config import paths
from coto.config.plan import Plan
from coto.measurements import base
from coto.measurements.train import (
    backbone_files,
    compute_of,
    located,
    model_code,
    prototype_files,
    prototype_rows,
    training_rows,
)
from coto.models.settings import Loading
from coto.settings import Model, Positive
from coto.tasks.registry import TASKS
from coto.tasks.task import SPLITS

if TYPE_CHECKING:
    import pandas as pd

    from coto.tasks.task import Task

# Families whose bare models answer; so does one with prototypes. Others have no head yet.
ZERO_SHOT = ("causal", "clip")
_KEY = {"suite": str, "trained_on": str, "task": str, "method": str}


class Baseline(Model):
    """What no adapter gives: guessing, the bare backbone, and a linear probe on its features."""

    probe_rows: Positive | None = Field(
        1000,
        description="Most training rows of the probe; few-shot suites: their shots, mean of three "
        "draws. Null: no probe.",
    )


class Settings(Model):
    """A suite's tasks, and its model."""

    suite: str
    tasks: tuple[str, ...]
    entries: tuple[dict[str, Any], ...]
    loading: Loading
    shots: int | None
    probe_rows: int | None


DRAWS = 3
"""Few-shot probes: the shots of the seeds 0 to 2."""


def run(job: base.Job[Settings]) -> None:
    """Score the most frequent answer, guessing, a linear probe and the bare backbone, if it can."""
    from coto.models.base import load_model
    from coto.models.probe import probe
    from coto.models.scoring import chance

    settings = job.settings
    suite, loading = job.settings.suite, job.settings.loading
    compute = compute_of(job, loading)
    zero_shot = loading.backbone.family in ZERO_SHOT or loading.head == "prototypes"
    probed = settings.probe_rows is not None
    model = None
    if zero_shot or probed:
        model = load_model(located(job, loading), compute, 0, job.root / ".cache")
    rows = []
    for name in settings.tasks:
        task, test = TASKS[name], job.rows(suite, name, "test")
        found = chance(task, job.rows(suite, name, "train"), test)
        if model is not None:
            model.set_task(task, test, prototype_rows(job, loading, suite, name))
        if model is not None and zero_shot:
            found["zero-shot"] = model.score(model.model, task, test)
        if model is not None and probed:
            validation = job.rows(suite, name, "validation")
            found["probe"] = probe(model, task, _draws(job, task), validation, test)
        for method, scores in found.items():
            label = f"{name}, {method}"
            rows += job.score_rows(task, scores, label, suite=suite, method=method)
    job.write("baseline", rows, compute.describe(job.threads))


def _draws(job: base.Job[Settings], task: "Task") -> "list[pd.DataFrame]":
    """The training rows of the probe: one set of them, or several draws of the shots."""
    settings = job.settings
    seeds = range(DRAWS if settings.shots else 1)
    draws = [training_rows(job, settings.suite, task, settings.shots, seed) for seed in seeds]
    return [rows.iloc[: settings.probe_rows] for rows in draws]


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    tasks = plan.suites[cell.suite].tasks
    return Settings(
        suite=cell.suite,
        tasks=tasks,
        entries=tuple(TASKS[task].scored() for task in tasks),
        loading=plan.loading(cell.suite, *tasks, standard=True),
        shots=plan.suites[cell.suite].rows.shots,
        probe_rows=plan.suites[cell.suite].need(Baseline).probe_rows,
    )


def _inputs(plan: Plan, cell: base.Cell) -> base.Inputs:
    tasks = plan.suites[cell.suite].tasks
    return {
        "backbone": backbone_files(plan, cell.suite),
        "prototypes": prototype_files(plan, cell.suite, tasks),
        **{s: [paths.data(cell.suite, task, s) for task in tasks] for s in SPLITS},
    }


base.MEASUREMENTS.add(
    base.Measurement(
        name="baseline",
        summary="score what no training gives",
        settings=Settings,
        section=Baseline,
        off="nothing but trained runs is scored",
        outputs={"baseline": "{suite}/baseline.json"},
        columns={"baseline": base.Columns({**_KEY, "metric": str}, base.SCORE)},
        # The suites that a study varies have the baseline of the suite itself.
        blocks=lambda plan, suite: base.all_blocks(suite) if suite in plan.config.suites else [],
        build=_settings,
        inputs=_inputs,
        code=model_code,
        run=run,
    )
)
