"""Tasks of the hub, read from the hub itself or from a mirror of it, through one code path."""

from pathlib import Path

import pandas as pd
from datasets import ClassLabel, Dataset

from coto.errors import CotoError
from coto.tasks.tables import open_tables, require_splits, where
from coto.tasks.text import TextTask


def read(
    task: TextTask, mirror: Path | None, cache: Path | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The task's train rows and its reported rows, with the columns that tasks share.

    Columns are ``text``, ``text_pair`` (pair tasks), ``label`` and ``idx``. The reported rows are
    ``task.test_split``: GLUE's own test part has no labels, papers report the development set.

    Raises:
        CotoError: The hub or the mirror lacks the task, or its rows are not as described.
    """
    tables = open_tables(task, mirror, cache)
    require_splits(task, tables, mirror, "train", task.test_split)
    place = where(task, mirror)
    return (
        _rows(task, tables["train"], f"{place}, train"),
        _rows(task, tables[task.test_split], f"{place}, {task.test_split}"),
    )


def _rows(task: TextTask, table: Dataset, place: str) -> pd.DataFrame:
    for column in (*task.text_columns, "label"):
        if column not in table.column_names:
            raise CotoError(
                f"{place}: no column {column!r}, it has {', '.join(table.column_names)}"
            )
    label = table.features["label"]
    if isinstance(label, ClassLabel) and tuple(label.names) != task.label_names:
        raise CotoError(f"{place}: labels are {label.names}, expected {list(task.label_names)}")
    frame = table.to_pandas()
    targets = ("text", "text_pair")[: len(task.text_columns)]
    rows = frame[list(task.text_columns)].set_axis(list(targets), axis=1).astype("str")
    rows["label"] = frame["label"]
    rows["idx"] = frame["idx"].astype("int64") if "idx" in frame else range(len(frame))
    rows["unit"] = rows["text"]
    rows["key"] = rows[list(targets)].agg("\0".join, axis=1) if task.is_pair else rows["text"]
    return rows
