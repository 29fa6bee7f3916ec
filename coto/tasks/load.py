"""Rows of a task: ``train``, ``validation`` and ``test`` as data frames.

>>> frames = load_task("movies", corpora=fetch_sdist(Path(".cache")))
>>> frames["train"].columns
Index(['text', 'label', 'idx'])
"""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path

import pandas as pd

from coto.errors import CotoError
from coto.tasks import splits, vader
from coto.tasks.registry import TASKS
from coto.tasks.text import TextTask


def load_task(
    name: str,
    *,
    corpora: Path | None = None,
    mirror: Path | None = None,
    limits: Mapping[str, int | None] | None = None,
    cache: Path | None = None,
) -> dict[str, pd.DataFrame]:
    """Load a task by name.

    Args:
        name: Key of :data:`coto.tasks.registry.TASKS`.
        corpora: The vaderSentiment archive, see :func:`coto.tasks.vader.fetch_sdist`; needed by
            offline tasks.
        mirror: Directory laid out as the hub (``<mirror>/nyu-mll/glue``); None asks the hub itself.
        limits: Most rows per split, such as ``{"train": 4000}``; none or null takes all. Rows are
            taken in the order of their content hash, so a smaller limit gives a subset.
        cache: Where ``datasets`` keeps its tables; None for its default.

    Returns:
        Split -> rows in the order of their content hash. Text tasks: ``text``, ``text_pair`` (pair
        tasks), ``label`` (int64; float64 for regression) and ``idx`` (int64: the source's own
        number on the hub; offline, the row's place in the unlimited split). No text, or pair, is in
        two splits. The other kinds: see the task's :attr:`~coto.tasks.task.Task.module`.

    Raises:
        CotoError: Unknown task, missing source, or rows that break the task's description.
    """
    if name not in TASKS:
        raise CotoError(f"task {name!r}: unknown, expected one of {', '.join(TASKS)}")
    task = TASKS[name]
    sizes = splits.check_limits(limits)
    if not isinstance(task, TextTask):
        rows: dict[str, pd.DataFrame] = import_module(task.module).load(
            task, corpora=corpora, mirror=mirror, limits=sizes, cache=cache
        )
        return rows
    if task.source == "hub":
        frames = _from_hub(task, mirror, cache)
    elif corpora is None:
        raise CotoError(
            f"task {name}: needs the archive {vader.SDIST}, expected its path as corpora"
        )
    else:
        frames = _offline(task, corpora)
    for split, frame in frames.items():
        if frame.empty:
            raise CotoError(f"task {name}: no row is left in {split}")
    splits.check_disjoint(name, frames)
    return {split: frames[split].iloc[: sizes[split]] for split in splits.SPLITS}


def _offline(task: TextTask, corpora: Path) -> dict[str, pd.DataFrame]:
    build = import_module(task.module).build
    rows = splits.drop_duplicates(build(task, partial(vader.read_corpus, corpora)))
    rows = splits.in_order(_checked(task, rows))
    part = rows["unit"].map(splits.split_of)
    frames = {split: rows[part == split].reset_index(drop=True) for split in splits.SPLITS}
    return {split: _columns(task, rows.assign(idx=rows.index)) for split, rows in frames.items()}


def _from_hub(task: TextTask, mirror: Path | None, cache: Path | None) -> dict[str, pd.DataFrame]:
    from coto.tasks import hub  # slow to import, and offline tasks do without

    train, test = hub.read(task, mirror, cache)
    # The reported split stays whole, so that accuracies are out of the same n as the paper's.
    frames = {"test": test, **splits.cut_validation(_checked(task, train), _checked(task, test))}
    return {split: _columns(task, splits.in_order(rows)) for split, rows in frames.items()}


def _checked(task: TextTask, rows: pd.DataFrame) -> pd.DataFrame:
    """Refuse empty texts and labels that the task does not have."""
    for column in ("text", "text_pair") if task.is_pair else ("text",):
        empty = rows[column].isna() | (rows[column].str.strip() == "")
        if empty.any():
            raise CotoError(f"task {task.name}: row {_first(rows, empty)} has an empty {column}")
    labels = pd.to_numeric(rows["label"], errors="coerce")
    if task.is_regression:
        unknown, expected = labels.isna(), "a number"
    else:
        unknown = ~labels.isin(range(task.num_labels))
        expected = ", ".join(f"{i} ({name})" for i, name in enumerate(task.label_names))
    if unknown.any():
        row = _first(rows, unknown)
        raise CotoError(
            f"task {task.name}: row {row} has label {rows['label'][unknown].iloc[0]}, "
            f"expected {expected}"
        )
    return rows.assign(label=labels.astype("float64" if task.is_regression else "int64"))


def _first(rows: pd.DataFrame, where: pd.Series) -> object:
    return rows[where]["idx" if "idx" in rows else "text"].iloc[0]


def _columns(task: TextTask, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["text", *(["text_pair"] if task.is_pair else []), "label", "idx"]]
