"""``python -m coto compare A B``: do two results folders hold the same numbers?

Compares ``claims.csv``, ``tables/*.csv`` and ``studies/*.csv``. Rows are matched by their texts
(suite, adapter, task …) and numeric axes, in any order. Seconds and memory are only counted.
"""

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from io import StringIO
from pathlib import Path

from coto.errors import CotoError

Row = dict[str, str]
SHOWN = 20  # differences per file that are printed
# Columns that tell rows apart. In other files: all texts except _TEXTS, and numbers on an axis.
_KEYS = {
    "claims.csv": ("claim", "suite", "adapter", "task"),
    "tables/training_time.csv": ("suite", "task", "adapter", "strategy"),
}
_TEXTS = ("selected",)
_AXES = ("lr", "weight", "sparsity", "x", "layer", "projection")


@dataclass
class Comparison:
    """A line per difference, at most SHOWN of a file, and how much was compared."""

    lines: list[str] = field(default_factory=list)
    files = values = timings = differences = 0

    def add(self, file: str, differences: Sequence[str]) -> None:
        """Add one file's differences."""
        self.differences += len(differences)
        self.lines += [f"{file}: {difference}" for difference in differences[:SHOWN]]
        if len(differences) > SHOWN:
            self.lines.append(f"{file}: and {len(differences) - SHOWN} more differences")


def main(arguments: Sequence[str]) -> int:
    """Print every difference and a summary; 0: equal, 1: different, 2: nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m coto compare")
    parser.add_argument("a", type=Path, help="results folder")
    parser.add_argument("b", type=Path, help="results folder")
    parser.add_argument("--tolerance", type=float, default=0.0, help="of numbers, absolute")
    parser.add_argument("--ignore", action="append", default=[], metavar="GLOB", help="files")
    options = parser.parse_args(arguments)
    try:
        result = _compare(options.a, options.b, options.tolerance, options.ignore)
    except CotoError as error:
        print(error, file=sys.stderr)
        return 2
    summary = f"{result.files} files, {result.values} values compared: "
    summary += f"{result.differences or 'no'} differences; {result.timings} timings, not compared"
    print(*result.lines, summary, sep="\n")
    return int(result.differences > 0)


def compare(a: Path, b: Path, tolerance: float = 0.0, ignore: Sequence[str] = ()) -> list[str]:
    """Differences between two results folders, a line each: file, row, column, both values.

    Args:
        a, b: the folders.
        tolerance: largest absolute difference of two numbers that count as equal.
        ignore: patterns of files to leave out, such as ``tables/pruning.csv`` or ``studies/*``.

    Raises:
        CotoError: one of them is no results folder.
    """
    return _compare(a, b, tolerance, ignore).lines


def _compare(a: Path, b: Path, tolerance: float, ignore: Sequence[str]) -> Comparison:
    files_a, files_b = _files(a), _files(b)
    result = Comparison()
    for file in sorted(files_a | files_b):
        if any(fnmatch(file, pattern) for pattern in ignore):
            continue
        if file not in files_a & files_b:
            result.add(file, [f"only in {a if file in files_a else b}"])
        else:
            _compare_file(file, a, b, tolerance, result)
    return result


def _files(folder: Path) -> set[str]:
    parts = ("claims.csv", "tables/*.csv", "studies/*.csv")
    files = {p.relative_to(folder).as_posix() for part in parts for p in folder.glob(part)}
    if not files:
        raise CotoError(f"{folder}: no results folder, expected claims.csv or tables/*.csv in it")
    return files


def _compare_file(file: str, a: Path, b: Path, tolerance: float, result: Comparison) -> None:
    result.files += 1
    contents = [(folder / file).read_text(encoding="utf-8") for folder in (a, b)]
    reader_a, reader_b = (csv.DictReader(StringIO(content)) for content in contents)
    columns_a, columns_b = reader_a.fieldnames or (), reader_b.fieldnames or ()
    rows_a, rows_b = list(reader_a), list(reader_b)
    columns = [c for c in columns_a if c in columns_b]
    differences = [f"column {c}: only in {a}" for c in columns_a if c not in columns]
    differences += [f"column {c}: only in {b}" for c in columns_b if c not in columns]
    texts = {c for c in columns if any(_number(row[c]) is None for row in (*rows_a, *rows_b))}
    key = [c for c in columns if c in _KEYS.get(file, texts.difference(_TEXTS).union(_AXES))]
    in_a, in_b = _by_key(rows_a, key, columns), _by_key(rows_b, key, columns)
    for row in sorted(in_a.keys() ^ in_b.keys()):
        differences.append(f"{row}: only in {a if row in in_a else b}")
    for row in [row for row in in_a if row in in_b]:
        timed = file == "tables/training_time.csv" or row.startswith("training-time/")
        for column in [c for c in columns if c not in key]:
            one, other = in_a[row][column], in_b[row][column]
            if timed or re.search("seconds|memory|wall", column):
                result.timings += 1
                continue
            result.values += 1
            if not _equal(one, other, tolerance):
                differences.append(f"{row}: {column}: {one or '—'} ≠ {other or '—'}")
    result.add(file, differences)


def _by_key(rows: list[Row], key: list[str], columns: list[str]) -> dict[str, Row]:
    """Rows by their key; those with the same one are numbered in the order of their contents."""
    count: Counter[str] = Counter()
    keyed = {}
    for row in sorted(rows, key=lambda row: [row[column] for column in columns]):
        cells = {c: row[c] for c in key if row[c]}
        axes = {c: f"{c}={x:g}" for c in _AXES if (x := _number(cells.get(c, "-"))) is not None}
        at = "/".join((cells | axes).values())
        count[at] += 1
        keyed[f"{at}#{count[at]}" if count[at] > 1 else at] = row
    return keyed


def _number(text: str) -> float | None:
    """The number in a cell; an empty cell holds not-a-number."""
    try:
        return float(text or "nan")
    except ValueError:
        return None


def _equal(one: str, other: str, tolerance: float) -> bool:
    x, y = _number(one), _number(other)
    return one == other or (x is not None and y is not None and abs(x - y) <= tolerance)
