"""A mirror: a directory laid out as the hub, ``<mirror>/<repository>/`` and its data.

The workflow declares the files of a task as inputs of its jobs: ``datasets`` and pandas are only
imported where tables are read.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from coto import record
from coto.errors import CotoError
from coto.tasks.task import Sources, Task
from coto.tasks.text import TextTask

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, DatasetDict


def mirror_files(task: Task, mirror: Path) -> list[Path]:
    """The files that a task reads below a mirror; CotoError if one is missing.

    Its plain files in its own order; or else the README of its repository, which says where the
    data are, then the data, sorted.
    """
    where = f"task {task.name}"
    if not mirror.is_dir():
        raise CotoError(f"{where}: data.mirror {str(mirror)!r} is no directory, expected a mirror")
    if task.files:
        missing = [file for file in task.files if not (mirror / file).is_file()]
        if missing:
            others = f"; so are {', '.join(missing[1:])}" if missing[1:] else ""
            raise CotoError(
                f"{where}: {mirror / missing[0]} is missing, expected the file there{others}"
            )
        return [mirror / file for file in task.files]
    repository = mirror / task.hub_path
    readme = repository / "README.md"
    if not readme.is_file():
        raise CotoError(
            f"{where}: {readme} is missing, expected the hub's layout of {task.hub_path}"
        )
    configs = _configs(where, readme)
    require(f"{where}: {readme} has no config", sorted(configs), task.hub_config)
    files: set[Path] = set()
    for pattern in configs[task.hub_config]:
        matched = {path for path in repository.glob(pattern) if path.is_file()}
        if not matched:
            raise CotoError(f"{where}: {repository / pattern} is missing, {readme} declares it")
        files |= matched
    return [readme, *sorted(files)]


def content_digest(files: Iterable[Path]) -> str:
    """Hash of the files' names and bytes, to key caches by."""
    content = "".join(f"{path.name} {record.sha256(path)}\n" for path in files)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _configs(where: str, readme: Path) -> dict[str, list[str]]:
    """Configuration name -> patterns of its data files, from the README's YAML header."""
    parts = readme.read_text(encoding="utf-8").split("---", 2)
    try:
        header = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else {}
        entries = header.get("configs", [])
        return {entry["config_name"]: _patterns(entry["data_files"]) for entry in entries}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise CotoError(
            f"{where}: {readme} has no readable `configs:` header ({type(error).__name__}), "
            "expected config_name and data_files of each"
        ) from error


def _patterns(data_files: Any) -> list[str]:
    """Flatten the header's forms: a pattern, a list of them, or a list of {split, path}."""
    if isinstance(data_files, str):
        return [data_files]
    if isinstance(data_files, dict):
        return _patterns(data_files["path"]) if "path" in data_files else []
    return [pattern for entry in data_files for pattern in _patterns(entry)]


def require(problem: str, known: Iterable[str], *names: str) -> None:
    """Refuse data that lack one of `names`; `problem` says what lacks what."""
    for name in names:
        if name not in known:
            raise CotoError(f"{problem} {name!r}, it has {', '.join(known) or 'none'}")


def open_tables(task: Task, sources: Sources, *splits: str) -> "tuple[DatasetDict, str]":
    """The tables of a data set of the hub by split, and its place, to begin an error with.

    CotoError if the hub cannot be reached, or the data lack one of `splits`.
    """
    from datasets import config, load_dataset

    mirror, directory = sources.mirror, sources.cache
    repository = str(mirror / task.hub_path if mirror else task.hub_path)
    if mirror is not None:
        # `datasets` keys a mirror's cache by its README alone: changed data, or another mirror with
        # the same README, would give the old rows. The directory is therefore keyed by content.
        root = directory or Path(config.HF_DATASETS_CACHE) / "mirror"
        directory = root / content_digest(mirror_files(task, mirror))
    cache = None if directory is None else str(directory)
    try:
        tables = load_dataset(repository, task.hub_config or None, cache_dir=cache)
    # What is raised depends on what is wrong with the network or the files; all are the user's to
    # mend and none is ours to debug.
    except Exception as error:
        hint = "" if mirror else "; give a mirror of the hub as data.mirror, or use offline tasks"
        reason = next(iter(str(error).strip().splitlines()), "")
        raise CotoError(
            f"task {task.name}: cannot read {repository} ({task.hub_config or 'default'}): "
            f"{type(error).__name__}: {reason}{hint}"
        ) from error
    place = f"task {task.name}: {repository}"
    require(f"{place} has no split", tables, *splits)
    return tables, place


def text_rows(task: TextTask, sources: Sources) -> "dict[str, pd.DataFrame]":
    """Rows of a text task of the hub; the validation part is cut from train.

    The reported rows are ``task.test_split``: GLUE's own test part has no labels, papers report the
    development set. They stay whole, so that accuracies are out of the same n as the paper's.
    CotoError if the hub or the mirror lacks the task, or its rows are not as described.
    """
    from coto.tasks.splits import checked, cut_validation, in_order

    origins = ("train", task.test_split)
    tables, place = open_tables(task, sources, *origins)
    train, test = (checked(task, _rows(task, tables[o], f"{place}, {o}")) for o in origins)
    frames = {"test": test, **cut_validation(train, test)}
    return {split: in_order(rows) for split, rows in frames.items()}


def _rows(task: TextTask, table: "Dataset", place: str) -> "pd.DataFrame":
    """``text``, ``text_pair`` (pair tasks), ``label``, ``idx``, and ``key`` to order rows by."""
    from datasets import ClassLabel

    require(f"{place}: no column", table.column_names, *task.text_columns, "label")
    label = table.features["label"]
    if isinstance(label, ClassLabel) and tuple(label.names) != task.label_names:
        raise CotoError(f"{place}: labels are {label.names}, expected {list(task.label_names)}")
    frame = table.to_pandas()
    texts = frame[list(task.text_columns)].astype("str")
    texts.columns = ["text", "text_pair"][: texts.shape[1]]
    idx = frame["idx"].astype("int64") if "idx" in frame else range(len(frame))
    key = texts["text"] + "\0" + texts["text_pair"] if task.is_pair else texts["text"]
    return texts.assign(label=frame["label"], idx=idx, key=key)
