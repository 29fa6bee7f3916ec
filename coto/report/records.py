"""Reading the JSON records that the stages write."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from coto.errors import CotoError

_ARM = ("suite", "trained_on", "task", "adapter", "strategy")
_SCORE = ("metric", "value", "headline", "n", "truncated", "flag")
_RUN = ("lr", "seed")

# Columns that identify a row of a stage. Empty where rows are repeated measurements.
KEYS: dict[str, tuple[str, ...]] = {
    "baseline": ("suite", "trained_on", "task", "method", "metric"),
    "train": (*_ARM, *_RUN, "split", "metric"),
    "gradients": (*_ARM, *_RUN, "stack", "layer", "share"),
    "select": (*_ARM, *_RUN, "metric"),
    "interpolate": (*_ARM, "seeds", "operator", "weight", "repeat", "metric"),
    "merge": (*_ARM, "seed", "operator", "merged_tasks", "repeat", "metric"),
    "prune": (*_ARM, "seed", "method", "keep", "sparsity", "repeat", "metric"),
    "subnetworks": (*_ARM, "seed", "analysis", "measure", "player", "x"),
    "geometry": (*_ARM, *_RUN, "other_strategy", "other_lr", "other_seed"),
    "trajectory": (*_ARM, "seeds", "share", "quantity", "metric"),
    "overhead": (),
}

REQUIRED: dict[str, tuple[str, ...]] = {
    "baseline": ("suite", "trained_on", "task", "method", *_SCORE),
    "train": (*_ARM, *_RUN, "split", *_SCORE),
    "gradients": (
        *(*_ARM, *_RUN, "stack", "layer", "share"),
        *("norm", "norm_active", "steps_active", "steps"),
    ),
    "select": (*_ARM, *_RUN, "metric", "value", "selected"),
    "interpolate": (*_ARM, "seeds", "operator", "weight", "repeat", *_SCORE),
    "merge": (*_ARM, "seed", "operator", "merged_tasks", "repeat", *_SCORE),
    "prune": (
        *(*_ARM, "seed", "method", "keep", "sparsity", "repeat"),
        *("adapters_kept", "adapters_total", *_SCORE),
    ),
    "subnetworks": (
        *(*_ARM, "seed", "analysis", "measure", "player", "stack", "layer", "projection"),
        *("x", "value", "error", "evaluations"),
    ),
    "geometry": (
        *(*_ARM, *_RUN, "other_strategy", "other_lr", "other_seed"),
        *("cosine", "euclidean", "distance"),
    ),
    "trajectory": (*_ARM, "seeds", "share", "quantity", *_SCORE),
    "overhead": (
        *_ARM,
        *("seconds_per_step", "steps", "batch_size", "threads", "device", "hardware"),
        "active_share",
    ),
}
# What merging leaves besides scores, as further lists of its records: what an operator measured on
# its way, of the whole adapter or of one module, and what is not defined, with the reason.
BESIDE: dict[str, tuple[str, ...]] = {
    "measured": (
        *("suite", "task", "adapter", "strategy", "seeds", "operator", "repeat"),
        *("module", "stack", "layer", "measure", "value"),
    ),
    "gaps": ("suite", "adapter", "strategy", "seeds", "operator", "reason"),
}

_TEXT = {*_ARM, "method", "split", "seeds", "quantity", "operator", "keep", "metric", "device"}
_TEXT |= {"hardware", "flag", "stack", "analysis", "measure", "player", "projection", "module"}
_TEXT |= {"other_strategy", "reason"}
_BOOLEAN = {"headline", "selected"}


def load_rows(paths: Iterable[Path | str], stage: str) -> pd.DataFrame:
    """Concatenate the rows of a stage's records.

    Returns:
        One row per measurement, in a sorted order that does not depend on the order of ``paths``;
        no paths give no rows but all columns. ``value`` is a fraction (a correlation: in [-1, 1]).

    Raises:
        CotoError: a file is missing, half-written, of another stage, lacks a column, holds a value
            of a wrong kind or NaN, or repeats a measurement. One line that names the file.
    """
    rows: list[dict[str, Any]] = []
    origin: dict[tuple[Any, ...], Path] = {}
    for path in map(Path, paths):
        for number, row in enumerate(_read(path, stage)["rows"]):
            _check(row, REQUIRED[stage], f"{path}: row {number}")
            key = tuple(row[column] for column in KEYS[stage])
            if key and key in origin:
                raise CotoError(f"{path}: repeats the measurement {key} of {origin[key]}")
            origin[key] = path
            rows.append(row)
    return _frame(rows, REQUIRED[stage], KEYS[stage] or _ARM)


def load_beside(records: Mapping[str, Iterable[Path | str]], name: str) -> pd.DataFrame:
    """Concatenate a list that the records of merging have besides their rows (:data:`BESIDE`).

    Args:
        records: paths by stage; those of ``interpolate`` and ``merge`` are read.
        name: of the list.

    Raises:
        CotoError: as :func:`load_rows`; the list itself may be missing.
    """
    rows = []
    for stage in ("interpolate", "merge"):
        for path in map(Path, records.get(stage, ())):
            for number, row in enumerate(_read(path, stage).get(name, [])):
                _check(row, BESIDE[name], f"{path}: {name} {number}")
                rows.append({**row, "stage": stage})
    columns = ("stage", *BESIDE[name])
    return _frame(rows, columns, columns)


def _frame(
    rows: list[dict[str, Any]], columns: tuple[str, ...], order: tuple[str, ...]
) -> pd.DataFrame:
    """Rows with the given columns first, whatever their order in the first record."""
    if not rows:
        return pd.DataFrame(columns=list(columns))
    frame = pd.DataFrame(rows)
    frame = frame[[*columns, *sorted(set(map(str, frame)) - set(columns))]]
    return frame.sort_values(list(order), kind="stable", ignore_index=True)


def _read(path: Path, stage: str) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CotoError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CotoError(f"{path}: not valid JSON, perhaps half-written ({error})") from error
    found = record.get("stage") if isinstance(record, Mapping) else None
    if found != stage:
        raise CotoError(f"{path}: stage: got {found!r}, expected {stage!r}")
    if not isinstance(record.get("rows"), list) or not record["rows"]:
        raise CotoError(f"{path}: rows: expected a list of measurements, found none")
    return record


def _check(row: Any, columns: tuple[str, ...], where: str) -> None:
    if not isinstance(row, Mapping):
        raise CotoError(f"{where}: got {row!r}, expected a mapping")
    missing = [column for column in columns if column not in row]
    if missing:
        raise CotoError(f"{where}: lacks {', '.join(missing)}")
    for column in columns:
        value = row[column]
        if column in _BOOLEAN:
            valid, expected = isinstance(value, bool), "true or false"
        elif column in _TEXT:
            valid, expected = isinstance(value, str), "text"
        else:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            valid, expected = number and math.isfinite(value), "a finite number"
        if not valid:
            raise CotoError(f"{where}: {column}: got {value!r}, expected {expected}")


def load_frames(records: Mapping[str, Iterable[Path | str]]) -> dict[str, pd.DataFrame]:
    """Rows of all stages by name, and what merging left beside its rows.

    Every evaluation set of a suite has a name of its own: where a suite scores one after training
    on several tasks, what it was trained on joins its name, since the two are different
    measurements.

    Raises:
        CotoError: a record is malformed.
    """
    frames = {stage: load_rows(records.get(stage, ()), stage) for stage in REQUIRED}
    train = frames["train"]
    sources = train.groupby(["suite", "task"])["trained_on"].nunique()
    shared = set(sources[sources > 1].index)
    told = {stage: _told_apart(frame, shared) for stage, frame in frames.items()}
    return told | {name: load_beside(records, name) for name in BESIDE}


def _told_apart(rows: pd.DataFrame, shared: set[tuple[str, str]]) -> pd.DataFrame:
    ours = [pair in shared for pair in zip(rows["suite"], rows["task"], strict=True)]
    if not any(ours):
        return rows
    names = rows["task"].where(~pd.Series(ours), rows["task"] + " after " + rows["trained_on"])
    return rows.assign(task=names)
