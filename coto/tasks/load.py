"""Rows of a task: ``train``, ``validation`` and ``test`` as data frames."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pandas as pd

from coto.errors import CotoError
from coto.tasks.registry import TASKS
from coto.tasks.splits import check_disjoint
from coto.tasks.task import SPLITS, Sources, Task
from coto.tasks.text import TextTask, vader


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
    module, _, function = task.code.partition(":")
    try:
        build = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise CotoError(
            f"task {task.name}: code = {task.code!r}: expected module:function ({error})"
        ) from error
    frames: dict[str, pd.DataFrame] = build(task, Sources(corpora, mirror, limits, cache))
    for split in SPLITS:
        if split not in frames or frames[split].empty:
            raise CotoError(f"task {task.name}: no row is left in {split}")
    if isinstance(task, TextTask):
        check_disjoint(task.name, frames)
        columns = ["text", *(["text_pair"] if task.is_pair else []), "label", "idx"]
        frames = {split: rows[columns].iloc[: limits[split]] for split, rows in frames.items()}
    return {split: frames[split] for split in SPLITS}
