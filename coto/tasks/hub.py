"""Tasks of the hub, read from the hub itself or from a mirror of it, through one code path."""

from pathlib import Path
from typing import Any

import pandas as pd
from datasets import ClassLabel, Dataset, config, load_dataset

from coto.errors import CotoError
from coto.tasks.mirror import content_digest, mirror_files
from coto.tasks.registry import Task


def read(task: Task, mirror: Path | None, cache: Path | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The task's train rows and its reported rows, with the columns that tasks share.

    Columns are ``text``, ``text_pair`` (pair tasks), ``label`` and ``idx``. The reported rows are
    ``task.test_split``: GLUE's own test part has no labels, papers report the development set.

    Raises:
        CotoError: The hub or the mirror lacks the task, or its rows are not as described.
    """
    tables = _load(task, mirror, cache)
    where = f"task {task.name}: {mirror / task.hub_path if mirror else task.hub_path}"
    for split in ("train", task.test_split):
        if split not in tables:
            raise CotoError(f"{where} has no split {split!r}, it has {', '.join(tables)}")
    return (
        _rows(task, tables["train"], f"{where}, train"),
        _rows(task, tables[task.test_split], f"{where}, {task.test_split}"),
    )


def _load(task: Task, mirror: Path | None, cache: Path | None) -> Any:
    if mirror is None:
        repository, directory = task.hub_path, cache
    else:
        # `datasets` keys a mirror's cache by its README alone: changed data, or another mirror with
        # the same README, would give the old rows. The directory is therefore keyed by content.
        files = mirror_files(task, mirror)
        root = cache or Path(config.HF_DATASETS_CACHE) / "mirror"
        repository, directory = str(mirror / task.hub_path), root / content_digest(files)
    try:
        return load_dataset(
            repository, task.hub_config, cache_dir=None if directory is None else str(directory)
        )
    # What is raised depends on what is wrong with the network or the files; all are the user's to
    # mend and none is ours to debug.
    except Exception as error:
        hint = "" if mirror else "; give a mirror of the hub as data.mirror, or use offline tasks"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise CotoError(
            f"task {task.name}: cannot read {repository} ({task.hub_config}): "
            f"{type(error).__name__}: {reason}{hint}"
        ) from error


def _rows(task: Task, table: Dataset, where: str) -> pd.DataFrame:
    for column in (*task.text_columns, "label"):
        if column not in table.column_names:
            raise CotoError(
                f"{where}: no column {column!r}, it has {', '.join(table.column_names)}"
            )
    label = table.features["label"]
    if isinstance(label, ClassLabel) and tuple(label.names) != task.label_names:
        raise CotoError(f"{where}: labels are {label.names}, expected {list(task.label_names)}")
    frame = table.to_pandas()
    targets = ("text", "text_pair")[: len(task.text_columns)]
    rows = frame[list(task.text_columns)].set_axis(list(targets), axis=1).astype("str")
    rows["label"] = frame["label"]
    rows["idx"] = frame["idx"].astype("int64") if "idx" in frame else range(len(frame))
    rows["unit"] = rows["text"]
    rows["key"] = rows[list(targets)].agg("\0".join, axis=1) if task.is_pair else rows["text"]
    return rows
