"""``python -m coto verify [RESULTS]``: does everything in a results folder still hold?

A record says what it holds, and has the hashes of the adapters, snapshots and rows that it was
computed from; a training's record has those of the adapter that it left. Files that are broken, and
files that have another content than a record says, are listed, one line each. ``--repair`` removes
what does not hold, with all that the same job has made, so that the next run makes it again.
"""

import argparse
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from coto import record
from coto.errors import CotoError
from coto.measurements import MEASUREMENTS
from coto.measurements.base import Cell, Measurement
from coto.registry import load_plugins


@dataclass(frozen=True)
class Problem:
    """A record or file that does not hold: its path under the results folder, and why.

    `source` is what it was computed from, where that has another content now. Either may be the one
    that was changed.
    """

    path: str
    reason: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Place:
    """A file's job: the measurement that makes it, where in the grid, and which output it is."""

    measurement: Measurement[Any]
    cell: Cell
    output: str


def main(arguments: Sequence[str]) -> int:
    """Print what does not hold; 0: all holds, or is repaired; 1: something does not."""
    parser = argparse.ArgumentParser(prog="python -m coto verify", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"))
    parser.add_argument("--repair", action="store_true", help="remove what does not hold")
    parser.add_argument("--plugin", action="append", default=[], help="of the configuration")
    options = parser.parse_args(list(arguments))
    if not options.results.is_dir():
        raise CotoError(f"results = {str(options.results)!r}: expected a results folder")
    load_plugins(options.plugin)
    problems = list(verify(options.results))
    for problem in problems:
        print(problem)
    if options.repair:
        removed = repair(options.results, problems)
        print(f"{len(removed)} files and folders removed; the next run makes them again")
        return 0
    print(f"{len(problems)} files do not hold" if problems else "everything holds")
    return int(bool(problems))


def verify(root: Path) -> Iterator[Problem]:
    """Everything that does not hold in a results folder, in the order of the paths.

    What no measurement makes, such as tables, is left out: it is made anew from records at any
    time.
    """
    digests = cache(lambda path: record.digest(root / path))
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        place = None if _hidden(name) else place_of(name)
        if place is None:
            continue
        if place.output in place.measurement.columns:
            yield from _record_problems(root, name, place, digests)
        elif path.suffix == ".parquet" and (reason := _unreadable(path)):
            yield Problem(name, reason)


def repair(root: Path, problems: Sequence[Problem]) -> list[Path]:
    """Remove the outputs of every job that made what does not hold, or its source; returns them."""
    paths = {path for one in problems for path in (one.path, one.source) if path}
    removed = []
    for place in filter(None, map(place_of, sorted(paths))):
        for output in place.measurement.outputs:
            path = root / place.measurement.path(place.cell, output)
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            else:
                continue
            removed.append(path)
    return removed


def place_of(path: str) -> Place | None:
    """The job that makes a file or folder under the results folder; None if no measurement does."""
    for measurement in MEASUREMENTS.values():
        for output, template in measurement.outputs.items():
            if found := _pattern(template).fullmatch(path):
                return Place(measurement, Cell(**found.groupdict()), output)
    return None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """The paths of a template; a field has the same value wherever it stands, and no slash.

    Two fields with a hyphen between them, an adapter and a strategy, part at the first one.
    """
    pattern = re.escape(template)
    for field in fields(Cell):
        before, marker, after = pattern.partition(re.escape(f"{{{field.name}}}"))
        if marker:
            again = after.replace(marker, f"(?P={field.name})")
            values = "[^/-]+" if field.name == "adapter" else "[^/]+"
            pattern = f"{before}(?P<{field.name}>{values}){again}"
    return re.compile(pattern)


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _record_problems(root: Path, name: str, place: Place, digests: Any) -> Iterator[Problem]:
    from coto.report.records import read_record

    try:
        content = read_record(root / name, place.output)
    except CotoError as error:
        yield Problem(name, str(error).removeprefix(f"{root / name}: "))
        return
    left: Mapping[str, str] = content.get("files", {})
    adapter = place.measurement.path(place.cell, "adapter") if left else ""
    for part, digest in left.items():
        folder = adapter if part == "." else f"{adapter}/{part}"
        if reason := _changed(root, folder, digest, digests):
            # The record and the adapter are of one job: both are made again.
            yield Problem(name, f"{folder} {reason}")
    for used, digest in content.get("inputs", {}).items():
        if reason := _changed(root, used, digest, digests):
            yield Problem(name, f"was computed from {used}, which {reason}", used)


def _changed(root: Path, path: str, digest: str, digests: Any) -> str:
    if not (root / path).exists():
        return "is not there"
    try:
        same = digests(path) == digest
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if same else "has another content than the record says"


def _unreadable(path: Path) -> str:
    import pyarrow
    import pyarrow.parquet

    try:
        pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        return f"cannot be read ({str(error).splitlines()[0]})"
    return ""
