"""Reading the JSON records that the measurements write."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from coto.errors import CotoError
from coto.measurements import Columns
from coto.measurements import columns as known_columns
from coto.record import read_json
from coto.registry import expected_one_of

Records = Mapping[str, Iterable[Path | str]]
"""Paths of records by measurement."""
Frames = Mapping[str, pd.DataFrame]
"""Rows by measurement, and the lists of :data:`BESIDE`."""

# What merging leaves besides scores, as further lists of its records: what an operator measured on
# its way, of the whole adapter or of one module, and what is not defined, with the reason.
_MERGED = dict.fromkeys(("adapter", "strategy", "seeds", "operator"), str)
BESIDE: dict[str, Columns] = {
    "measured": Columns(
        {},
        {"suite": str, "task": str, **_MERGED, "repeat": float}
        | {"module": str, "stack": str, "layer": float, "measure": str, "value": float},
    ),
    "gaps": Columns({}, {"suite": str, **_MERGED, "reason": str}),
}
_WITH_LISTS = ("interpolate", "merge")
# Order of rows that have no key.
_ARM = ("suite", "trained_on", "task", "adapter", "strategy")
_EXPECTED = {str: "text", bool: "true or false", int: "a whole number", float: "a finite number"}


def load_frames(records: Records) -> dict[str, pd.DataFrame]:
    """Rows of all measurements by name, and the lists that merging left beside its rows.

    A measurement without records has no rows but all columns; the order of paths does not matter.
    ``value`` is a fraction (a correlation: in [-1, 1]). Where a suite scores one evaluation set
    after training on several tasks, what it was trained on joins the set's name. CotoError names a
    file that is missing, half-written, of another measurement, lacks a column, holds a value of a
    wrong kind or NaN, or repeats a measurement.
    """
    frames: dict[str, pd.DataFrame] = {}
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in BESIDE}
    known = known_columns()
    for name in records:
        if name not in known:
            raise CotoError(f"records of {name!r}: {expected_one_of(name, known)}")
    lineage: list[tuple[Path, dict[str, str], dict[str, str]]] = []
    for stage, columns in known.items():
        rows: list[dict[str, Any]] = []
        origin: dict[tuple[Any, ...], Path] = {}
        for path in map(Path, records.get(stage, ())):
            record = read_record(path, stage)
            lineage.append((path, record.get("files", {}), record.get("inputs", {})))
            for row in record["rows"]:
                key = tuple(row[column] for column in columns.key)
                if key and key in origin:
                    raise CotoError(f"{path}: repeats the measurement {key} of {origin[key]}")
                origin[key] = path
                rows.append(row)
            for name in BESIDE if stage in _WITH_LISTS else ():
                more = _checked(record.get(name, []), BESIDE[name], f"{path}: {name}")
                lists[name] += [{**row, "stage": stage} for row in more]
        frames[stage] = _frame(rows, tuple(columns.types), tuple(columns.key) or _ARM)
    _check_lineage(lineage)
    every = [rows[["suite", "task", "trained_on"]] for rows in frames.values() if len(rows)]
    if every:
        sources = pd.concat(every).groupby(["suite", "task"])["trained_on"].nunique()
        shared = set(sources[sources > 1].index)
        frames = {stage: _with_own_names(rows, shared) for stage, rows in frames.items()}
    for name, columns in BESIDE.items():
        names = ("stage", *columns.types)
        frames[name] = _frame(lists[name], names, names)
    return frames


def _check_lineage(records: list[tuple[Path, dict[str, str], dict[str, str]]]) -> None:
    """Refuse a record that was computed from another adapter than the one that training left.

    Of each record: its path, the digests of the files that it left, and of those that it read.
    """
    trained = {
        _end((path.parent / "adapter" / part).as_posix()): digest
        for path, left, _ in records
        for part, digest in left.items()
    }
    for path, _, read in records:
        for name, digest in read.items():
            if trained.get(_end(name), digest) != digest:
                raise CotoError(
                    f"{path}: was computed from another adapter than {name}, as the record of its "
                    "training describes it: delete the older of the two records and run again"
                )


def _end(path: str) -> str:
    """The path of an adapter from its suite on, whatever the results folder."""
    run, _, part = path.partition("/adapter")
    return "/".join(run.split("/")[-5:]) + part.removesuffix("/.")


def _frame(
    rows: list[dict[str, Any]], columns: tuple[str, ...], order: tuple[str, ...]
) -> pd.DataFrame:
    """Rows with the given columns first, whatever their order in the first record."""
    if not rows:
        return pd.DataFrame(columns=list(columns))
    frame = pd.DataFrame(rows)
    frame = frame[[*columns, *sorted(set(map(str, frame)) - set(columns))]]
    return frame.sort_values(list(order), kind="stable", ignore_index=True)


def read_record(path: Path, stage: str) -> dict[str, Any]:
    """A record as it was written, its rows checked; see :func:`load_frames` for what it raises."""
    record = read_json(path)
    actual = record.get("stage") if isinstance(record, Mapping) else None
    if actual != stage:
        raise CotoError(f"{path}: stage: got {actual!r}, expected {stage!r}")
    if not isinstance(record.get("rows"), list) or not record["rows"]:
        raise CotoError(f"{path}: rows: expected a list of measurements, found none")
    _checked(record["rows"], known_columns()[stage], f"{path}: row")
    return record


def _checked(rows: list[Any], columns: Columns, where: str) -> list[dict[str, Any]]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise CotoError(f"{where} {number}: got {row!r}, expected a mapping")
        missing = [column for column in columns.types if column not in row]
        if missing:
            raise CotoError(f"{where} {number}: lacks {', '.join(missing)}")
        for column, kind in columns.types.items():
            if not _is_a(row[column], kind):
                raise CotoError(
                    f"{where} {number}: {column}: got {row[column]!r}, expected {_EXPECTED[kind]}"
                )
    return rows


def _is_a(value: Any, kind: type) -> bool:
    """Whether a value is of a column's type; whole numbers are numbers, truth values are not."""
    if kind in (str, bool):
        return isinstance(value, kind)
    number = isinstance(value, int | kind) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _with_own_names(rows: pd.DataFrame, shared: set[tuple[str, str]]) -> pd.DataFrame:
    ours = [pair in shared for pair in zip(rows["suite"], rows["task"], strict=True)]
    if not any(ours):
        return rows
    names = rows["task"].where(~pd.Series(ours), rows["task"] + " after " + rows["trained_on"])
    return rows.assign(task=names)
