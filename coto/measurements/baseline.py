"""What a suite's tasks give without training, to read the trained scores by."""

from typing import Any

from coto.config import paths
from coto.config.plan import Plan
from coto.measurements import base
from coto.measurements.train import (
    backbone_files,
    located,
    model_code,
    prototype_files,
    prototype_rows,
)
from coto.models.settings import Loading
from coto.settings import Model
from coto.tasks.registry import TASKS

# Families whose bare models answer; so does one with prototypes. Others have no head yet.
ZERO_SHOT = ("causal", "clip")
_KEY = {"suite": str, "trained_on": str, "task": str, "method": str}


class Settings(Model):
    """A suite's tasks, and its model."""

    suite: str
    tasks: tuple[str, ...]
    entries: tuple[dict[str, Any], ...]
    loading: Loading


def run(job: base.Job[Settings]) -> None:
    """Score the most frequent answer, guessing and, where there is one, the bare backbone."""
    from coto import device
    from coto.models.base import load_model
    from coto.models.scoring import chance

    suite, loading = job.settings.suite, job.settings.loading
    compute = device.resolve(loading.device, loading.precision)
    zero_shot = loading.backbone.family in ZERO_SHOT or loading.head == "prototypes"
    model = (
        load_model(located(job, loading), compute, 0, job.root / ".cache") if zero_shot else None
    )
    rows = []
    for name in job.settings.tasks:
        task, test = TASKS[name], job.rows(suite, name, "test")
        for method, scores in chance(task, job.rows(suite, name, "train"), test).items():
            label = f"{name}, {method}"
            rows += job.score_rows(task, scores, label, suite=suite, method=method)
        if model is not None:
            model.set_task(task, test, prototype_rows(job, loading, suite, name))
            scores = model.score(model.model, task, test)
            label, method = f"{name}, zero-shot", "zero-shot"
            rows += job.score_rows(task, scores, label, suite=suite, method=method)
    job.write("baseline", rows, compute.describe(job.threads))


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    tasks = plan.suites[cell.suite].tasks
    return Settings(
        suite=cell.suite,
        tasks=tasks,
        entries=tuple(TASKS[task].scored() for task in tasks),
        loading=plan.loading(cell.suite, *tasks, standard=True),
    )


def _inputs(plan: Plan, cell: base.Cell) -> base.Inputs:
    tasks = plan.suites[cell.suite].tasks
    return {
        "backbone": backbone_files(plan, cell.suite),
        "prototypes": prototype_files(plan, cell.suite, tasks),
        **{s: [paths.data(cell.suite, task, s) for task in tasks] for s in ("train", "test")},
    }


base.MEASUREMENTS.add(
    base.Measurement(
        name="baseline",
        summary="score what no training gives",
        settings=Settings,
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
