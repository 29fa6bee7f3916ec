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

# Columns that identify a row of a stage. Empty where rows are repeated measurements.
KEYS: dict[str, tuple[str, ...]] = {
    "baseline": ("suite", "trained_on", "task", "method", "metric"),
    "train": (*_ARM, "lr", "seed", "split", "metric"),
    "interpolate": (*_ARM, "seeds", "space", "weight", "metric"),
    "trajectory": (*_ARM, "seeds", "share", "quantity", "metric"),
    "merge": (*_ARM, "seed", "space", "merged_tasks", "metric"),
    "prune": (*_ARM, "seed", "keep", "metric"),
    "overhead": (),
    "select": (*_ARM, "lr", "seed", "metric"),
}

REQUIRED: dict[str, tuple[str, ...]] = {
    "baseline": ("suite", "trained_on", "task", "method", *_SCORE),
    "train": (*_ARM, "lr", "seed", "split", *_SCORE),
    "interpolate": (*_ARM, "seeds", "space", "weight", *_SCORE),
    "trajectory": (*_ARM, "seeds", "share", "quantity", *_SCORE),
    "merge": (*_ARM, "seed", "space", "merged_tasks", *_SCORE),
    "prune": (*_ARM, "seed", "keep", "adapters_kept", "adapters_total", *_SCORE),
    "overhead": (
        *_ARM,
        *("seconds_per_step", "steps", "batch_size", "threads", "device", "hardware"),
        "active_share",
    ),
    "select": (*_ARM, "lr", "seed", "metric", "value", "selected"),
}

_TEXT = {*_ARM, "method", "split", "seeds", "quantity", "space", "keep", "metric", "device"}
_TEXT |= {"hardware", "flag"}
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
            _check(row, stage, f"{path}: row {number}")
            key = tuple(row[column] for column in KEYS[stage])
            if key and key in origin:
                raise CotoError(f"{path}: repeats the measurement {key} of {origin[key]}")
            origin[key] = path
            rows.append(row)
    columns = list(REQUIRED[stage])
    if not rows:
        return pd.DataFrame(columns=columns)
    # Whatever the order of keys in the first record.
    frame = pd.DataFrame(rows)
    frame = frame[[*columns, *sorted(set(map(str, frame)) - set(columns))]]
    order = [*(KEYS[stage] or _ARM)]
    return frame.sort_values(order, kind="stable", ignore_index=True)


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


def _check(row: Any, stage: str, where: str) -> None:
    if not isinstance(row, Mapping):
        raise CotoError(f"{where}: got {row!r}, expected a mapping")
    missing = [column for column in REQUIRED[stage] if column not in row]
    if missing:
        raise CotoError(f"{where}: lacks {', '.join(missing)}")
    for column in REQUIRED[stage]:
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
    """Rows of all stages by name, every evaluation set of a suite with a name of its own.

    Where a suite scores one evaluation set after training on several tasks, what it was trained on
    joins its name, since the two are different measurements.

    Raises:
        CotoError: a record is malformed.
    """
    frames = {stage: load_rows(records.get(stage, ()), stage) for stage in REQUIRED}
    train = frames["train"]
    sources = train.groupby(["suite", "task"])["trained_on"].nunique()
    shared = set(sources[sources > 1].index)
    return {stage: _told_apart(frame, shared) for stage, frame in frames.items()}


def _told_apart(rows: pd.DataFrame, shared: set[tuple[str, str]]) -> pd.DataFrame:
    ours = [pair in shared for pair in zip(rows["suite"], rows["task"], strict=True)]
    if not any(ours):
        return rows
    names = rows["task"].where(~pd.Series(ours), rows["task"] + " after " + rows["trained_on"])
    return rows.assign(task=names)
