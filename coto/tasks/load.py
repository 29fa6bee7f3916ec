"""Rows of a task: ``train``, ``validation`` and ``test`` as data frames."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pandas as pd

from coto.errors import CotoError
from coto.tasks.registry import TASKS
from coto.tasks.splits import check_disjoint, draw
from coto.tasks.task import SPLITS, Sources, Task
from coto.tasks.text import TextTask, vader

# Rows of each class that prototypes are drawn from the training part by, and a seed for it that no
# run has.
PROTOTYPE_SHOTS, PROTOTYPE_SEED = 16, 2**31 - 1


def load_task(
    task: str | Task,
    *,
    corpora: Path | None = None,
    mirror: Path | None = None,
    limits: Mapping[str, int | None] | None = None,
    cache: Path | None = None,
) -> dict[str, pd.DataFrame]:
    """Load a task of the registry, by its name, or another one, from :class:`Sources`.

    Returns:
        Split -> rows. Text tasks: ``text``, ``text_pair`` (pair tasks), ``label`` (int64; float64
        for regression) and ``idx`` (int64: the source's own number on the hub; offline, the row's
        place in the unlimited split); no text, or pair, is in two splits. Language tasks: ``set``,
        ``instruction``, ``choices``, ``answer`` and ``idx``. Image tasks: ``image`` (the bytes of
        an image file), ``label`` and ``idx``; ``attrs["class_names"]`` has the classes by label.

    Raises:
        CotoError: Unknown task, wrong limits, no such code, missing source, or unfitting rows.
    """
    task = TASKS[task] if isinstance(task, str) else task
    limits = dict(limits or {})
    for split, limit in limits.items():
        if split not in SPLITS:
            raise CotoError(f"limits.{split}: unknown split, expected one of {', '.join(SPLITS)}")
        if limit is not None and limit < 1:
            raise CotoError(f"limits.{split}: {limit}, expected at least 1 or null")
    limits = dict.fromkeys(SPLITS) | limits
    if task.source == "vader" and corpora is None:
        raise CotoError(
            f"task {task.name}: needs the archive {vader.SDIST}, expected its path as corpora"
        )
    frames = _build(task, Sources(corpora, mirror, limits, cache))
    for split in SPLITS:
        if split not in frames or frames[split].empty:
            raise CotoError(f"task {task.name}: no row is left in {split}")
    if isinstance(task, TextTask):
        check_disjoint(task.name, frames)
        columns = ["text", *(["text_pair"] if task.is_pair else []), "label", "idx"]
        frames = {split: rows[columns].iloc[: limits[split]] for split, rows in frames.items()}
    return {split: frames[split] for split in SPLITS}


def load_prototypes(task: str | Task, train: pd.DataFrame | None = None) -> pd.DataFrame:
    """Labelled images, as the rows of :func:`load_task`, that classes' prototypes are made of.

    They do not depend on any run's seed, and none is of validation or test. A task that is made
    draws some of its own, or clean characters; of another one so many rows per class are drawn from
    its prepared `train` part.

    Raises:
        CotoError: Unknown task, no such code, or a class without a row.
    """
    task = TASKS[task] if isinstance(task, str) else task
    if task.source == "made":
        frame = _build(task, Sources(prototypes=True)).get("prototypes")
        if frame is None:
            raise CotoError(f"task {task.name}: {task.code} makes no part prototypes, expected one")
    else:
        assert train is not None
        frame = draw(train, PROTOTYPE_SHOTS, PROTOTYPE_SEED)
    names = frame.attrs["class_names"]
    for label in sorted(set(range(len(names))) - set(frame["label"])):
        raise CotoError(f"task {task.name}: class {names[label]!r} has no row for its prototype")
    return frame


def _build(task: Task, sources: Sources) -> dict[str, pd.DataFrame]:
    module, _, function = task.code.partition(":")
    try:
        build = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise CotoError(
            f"task {task.name}: code = {task.code!r}: expected module:function ({error})"
        ) from error
    frames: dict[str, pd.DataFrame] = build(task, sources)
    return frames
