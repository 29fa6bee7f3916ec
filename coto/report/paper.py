"""The paper's numbers, each with where it was read and whether it was measured there at all.

``paper_values.csv`` is the only place that holds them. ``quality`` says how a number was obtained:
``exact`` is printed in a primary source, ``second-hand`` comes from notes on the paper,
``digitised`` was measured on a picture. ``copied_from`` names the publication that the authors took
a baseline from instead of running it.
"""

import csv
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from coto.errors import CotoError

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class PaperValue:
    """A number of the paper, in its own unit: percent for accuracies, minutes for times."""

    value: float
    std: float | None
    source: str
    quality: str
    copied_from: str

    @property
    def provenance(self) -> str:
        """One phrase for tables: how it was obtained, where, and whether it was copied."""
        copied = f"; baseline copied from {self.copied_from}" if self.copied_from else ""
        return f"{self.quality}; {self.source}{copied}"


def paper_value(experiment: str, task: str, method: str, metric: str) -> PaperValue:
    """Look a number up.

    Raises:
        CotoError: the paper has no such number; the message names what exists instead.
    """
    values = _rows()
    key = (experiment, task, method, metric)
    if key in values:
        return _parse(values[key])
    for depth, name in enumerate(("experiment", "task", "method", "metric")):
        siblings = sorted({k[depth] for k in values if k[:depth] == key[:depth]})
        if key[depth] not in siblings:
            shown = ", ".join(siblings[:12]) + (", ..." if len(siblings) > 12 else "")
            raise CotoError(f"paper value: {name} {key[depth]!r} unknown, expected one of {shown}")
    raise AssertionError(f"unreachable: {key}")


def paper_values(experiment: str) -> dict[tuple[str, str, str], PaperValue]:
    """All numbers of an experiment by (task, method, metric); what is only a bound is left out."""
    found = {}
    for (name, *place), row in _rows().items():
        if name == experiment:
            with suppress(CotoError):
                found[place[0], place[1], place[2]] = _parse(row)
    if not found:
        raise CotoError(f"paper value: experiment {experiment!r} unknown")
    return found


@cache
def _rows() -> dict[Key, dict[str, str]]:
    text = files("coto.report").joinpath("paper_values.csv").read_text(encoding="utf-8")
    rows: dict[Key, dict[str, str]] = {}
    for row in csv.DictReader(text.splitlines()):
        key = (row["experiment"], row["task"], row["method"], row["metric"])
        if key in rows:
            raise CotoError(f"paper_values.csv: {key} stands there twice")
        rows[key] = row
    return rows


def _parse(row: dict[str, str]) -> PaperValue:
    try:
        value = _number(row["value"])
    except ValueError as error:
        where = ", ".join(row[name] for name in ("experiment", "task", "method", "metric"))
        raise CotoError(f"paper value: {where} is only known as {row['value']!r}") from error
    return PaperValue(
        value=value,
        std=_number(row["std"]) if row["std"] else None,
        source=row["source"],
        quality=row["quality"],
        copied_from=row["copied_from"],
    )


def _number(text: str) -> float:
    """A decimal, or a wall-clock time ``h:mm`` in minutes."""
    hours, colon, minutes = text.partition(":")
    return 60.0 * int(hours) + int(minutes) if colon else float(text)
