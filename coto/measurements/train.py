"""Training runs: one adapter, one strategy, one learning rate, one seed."""

import logging
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coto.adapters.kinds import KINDS, Adapter
from coto.config import paths
from coto.config.models import Strategy
from coto.config.plan import Plan
from coto.measurements import base
from coto.method.strategies import STRATEGIES
from coto.models.settings import FAMILIES, Loading, NamedBackbone, Training
from coto.settings import Model
from coto.tasks.registry import TASKS
from coto.tasks.task import SPLITS
from coto.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from coto.device import Compute
    from coto.tasks.task import Task

log = logging.getLogger(__name__)

RUN = "{suite}/{task}/{adapter}-{strategy}/lr{lr}/seed{seed}"
"""Folder of one training run."""


class Learner(Model):
    """A model with an adapter in its initial state, and how it is trained."""

    suite: str
    task: str
    entry: dict[str, Any]
    adapter: str
    adapter_settings: Adapter
    kind: dict[str, Any]
    loading: Loading
    shots: int | None = None

    @property
    def train(self) -> Training:
        """How it is trained."""
        assert self.loading.train is not None
        return self.loading.train


class Settings(Learner):
    """One training run."""

    strategy: str
    strategy_settings: Strategy
    lr: float
    seed: int


def run(job: base.Job[Settings]) -> None:
    """Train and score one run.

    Writes the adapter in PEFT's format; the answer to every test item, for tests that pair the
    items of two runs; gradient norms per block over the training; the record; and one of what the
    run scores with every adapter removed, which tells the adapters' share from the head's.
    """
    workspace = Workspace(job.root, job.settings, job.code)
    # Should this job's twin, orphaned by a killed workflow, still run, wait for it.
    with workspace.locked():
        if workspace.hand_over(job.outputs):
            log.info("it was trained before, by a job that was lost afterwards")
            return
        drafts = workspace.drafts(job.outputs)
        _train(replace(job, outputs=drafts), workspace.folder)
        workspace.finish(drafts)
        workspace.hand_over(job.outputs)


def _train(job: base.Job[Settings], workspace: Path) -> None:
    import pandas as pd

    from coto import record
    from coto.measurements.training import adapters_off, add_adapter, fit
    from coto.models.base import load_model

    settings, task = job.settings, TASKS[job.settings.task]
    compute = compute_of(job, settings.loading)
    model = load_model(located(job, settings.loading), compute, settings.seed, job.root / ".cache")
    rows = training_rows(job, settings.suite, task, settings.shots, settings.seed)
    model.set_task(task, rows, prototype_rows(job, settings.loading, settings.suite, task.name))
    data = model.training_set(task, rows)
    adapted = add_adapter(model, settings, settings.seed)
    trained = fit(adapted, data, settings, compute, workspace)
    files = _save(trained.model, workspace / paths.SNAPSHOTS, job.outputs["adapter"])
    coordinates = {
        name: getattr(settings, name) for name in ("suite", "adapter", "strategy", "lr", "seed")
    }
    results = []
    splits = ("validation", "test") if settings.loading.evaluation.test else ("validation",)
    for split in splits:
        rows = job.rows(settings.suite, task.name, split)
        scores = model.score(trained.model, task, rows)
        results += job.score_rows(task, scores, split, **coordinates, split=split)
    with adapters_off(trained.model):
        bare = model.score(trained.model, task, rows)  # of the part that was scored last
    none = job.score_rows(task, bare, f"{split}, adapters removed", **coordinates, split=split)
    with record.atomic(job.outputs["answers"]) as temporary:
        items = pd.concat([one.items.assign(task=one.task) for one in scores])
        items.to_parquet(temporary, index=False, compression="zstd")
    arm = {**coordinates, "trained_on": task.name, "task": task.name}
    job.write("gradients", [{**arm, **row} for row in trained.gradients])
    job.write("none", none, compute.describe(job.threads))
    job.write(
        "train", results, compute.describe(job.threads), training=trained.summary, files=files
    )


def training_rows(
    job: base.Job[Any], suite: str, task: "Task", shots: int | None, seed: int
) -> "pd.DataFrame":
    """The rows that a run trains on: all, or so many per class, drawn with the run's seed."""
    rows = job.rows(suite, task.name, "train")
    if shots is None:
        return rows
    from coto.tasks.splits import draw

    return draw(rows, shots, seed)


def prototype_rows(
    job: base.Job[Any], loading: Loading, suite: str, task: str
) -> "pd.DataFrame | None":
    """The rows that a task's head is made of, where heads are made of any."""
    return job.rows(suite, task, paths.PROTOTYPES) if loading.head == "prototypes" else None


def compute_of(job: base.Job[Any], loading: Loading) -> "Compute":
    """Where a job computes; what ``auto`` stands for is settled once per results folder.

    Not a method of every job: those without a model would run again for another way to choose.
    """
    from coto import device

    measured = job.root / ".cache" / f"bf16-{loading.backbone.name}.json"
    return device.resolve(loading.device, loading.precision, loading.backbone.width, measured)


def located(job: base.Job[Any], loading: Loading) -> Loading:
    """What a model is loaded with, where a converted backbone is known by its folder."""
    return loading.model_copy(update={"backbone": located_backbone(job, loading.backbone)})


def located_backbone(job: base.Job[Any], backbone: NamedBackbone) -> NamedBackbone:
    """A backbone that is known by its folder, if it was converted."""
    if backbone.wheel is None:
        return backbone
    path = str(job.root / paths.BACKBONE.format(backbone=backbone.name))
    return backbone.model_copy(update={"path": path})


def _save(model: Any, snapshots: Path, adapter: Path) -> dict[str, str]:
    """Save the adapter with its snapshots, and check it.

    Returns:
        Hashes of the adapter and its snapshots, by folder.
    """
    from coto import record
    from coto.adapters.store import check_adapter

    model.save_pretrained(adapter)
    (adapter / "README.md").unlink(missing_ok=True)  # a model card without content
    check_adapter(adapter)
    if snapshots.is_dir():
        shutil.copytree(snapshots, adapter / paths.SNAPSHOTS)
    parts = [adapter, *sorted(adapter.glob(f"{paths.SNAPSHOTS}/*"))]
    return {str(part.relative_to(adapter)): record.digest(part) for part in parts}


# --- what the workflow sets, and what other measurements need of runs --------------------------


def learner(plan: Plan, cell: base.Cell, train: Training) -> dict[str, Any]:
    """Settings of a :class:`Learner` that trains like this."""
    task = TASKS[cell.task]
    adapter = plan.adapter(cell.suite, cell.adapter)
    changes = {"train": train, "num_labels": task.scored().get("num_labels")}
    return {
        "suite": cell.suite,
        "task": cell.task,
        "entry": task.scored(),
        "adapter": cell.adapter,
        "adapter_settings": adapter,
        "kind": asdict(KINDS[adapter.kind]),
        "loading": plan.loading(cell.suite, cell.task, standard=True).model_copy(update=changes),
        "shots": plan.suites[cell.suite].rows.shots,
    }


def _settings(plan: Plan, cell: base.Cell) -> Settings:
    train = plan.training(cell.suite, cell.task)
    early = getattr(getattr(plan.suites[cell.suite], "subnetworks", None), "early_stop", None)
    if early is not None:
        # A run that stops early is the same run up to there.
        snapshots = tuple(sorted({*train.snapshots, early}))
        train = train.model_copy(update={"snapshots": snapshots})
    return Settings(
        **learner(plan, cell, train),
        strategy=cell.strategy,
        strategy_settings=plan.config.strategies[cell.strategy],
        lr=float(cell.lr),
        seed=int(cell.seed),
    )


def _runs(plan: Plan, suite: str) -> list[base.Block]:
    cfg = plan.suites[suite]
    return [
        {
            "suite": [plan.home(suite)],
            "adapter": [adapter],
            "strategy": [strategy],
            "task": cfg.tasks,
            "lr": plan.grid(suite, adapter, strategy),
            "seed": [str(seed) for seed in cfg.seeds],
        }
        for adapter in cfg.adapters
        for strategy in cfg.strategies
    ]


def backbone_files(plan: Plan, suite: str) -> list[str]:
    """The suite's backbone, where it has to be made first."""
    name = plan.suites[suite].backbone
    made = plan.config.backbones[name].wheel is not None
    return [paths.BACKBONE.format(backbone=name)] if made else []


def prototype_files(plan: Plan, suite: str, tasks: Iterable[str]) -> list[str]:
    """The rows that heads of a suite are made of, where they are made of any."""
    needed = plan.suites[suite].head == "prototypes"
    return [paths.data(suite, task, paths.PROTOTYPES) for task in tasks] if needed else []


def _inputs(plan: Plan, cell: base.Cell) -> base.Inputs:
    return {
        "backbone": backbone_files(plan, cell.suite),
        "prototypes": prototype_files(plan, cell.suite, [cell.task]),
        **{split: [paths.data(cell.suite, cell.task, split)] for split in SPLITS},
    }


def model_code(plan: Plan, cell: base.Cell) -> list[str]:
    """Code that a model is looked up by: its family, and the kinds of the job's tasks."""
    names = [cell.task] if cell.task else plan.suites[cell.suite].tasks
    tasks = (TASKS[task] for task in names)
    kinds = sorted({f"{type(task).__module__}:{type(task).__name__}" for task in tasks})
    return [FAMILIES[plan.family(cell.suite)].code, *kinds]


def _code(plan: Plan, cell: base.Cell) -> list[str]:
    strategy = STRATEGIES[plan.config.strategies[cell.strategy].kind]
    return [*model_code(plan, cell), strategy.code]


TRAIN: base.Measurement[Settings] = base.MEASUREMENTS.add(
    base.Measurement(
        name="train",
        summary="train and score one run",
        settings=Settings,
        outputs={
            "train": f"{RUN}/train.json",
            "adapter": f"{RUN}/adapter",
            "answers": f"{RUN}/answers.parquet",
            "gradients": f"{RUN}/gradients.json",
            "none": f"{RUN}/none.json",
        },
        folders=frozenset({"adapter"}),
        columns={
            "train": base.scores_by(lr=float, seed=int, split=str),
            "gradients": base.Columns(
                {**base.ARM, "lr": float, "seed": int, "stack": str, "layer": int, "share": float},
                {"norm": float, "norm_active": float, "steps_active": int, "steps": int},
            ),
            "none": base.scores_by(lr=float, seed=int, split=str),
        },
        blocks=_runs,
        build=_settings,
        inputs=_inputs,
        code=_code,
        run=run,
    )
)
