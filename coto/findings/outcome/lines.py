"""The main claims as lines, out of what the claims job wrote.

Gains are effects turned so that more is what the claim says; where less is better, the claim's
words end in *lower by*.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coto.errors import CotoError
from coto.record import read_json

SUPPORTED, REFUTED, OPEN = "supported", "not supported", "inconclusive"
UNTESTABLE = "cannot be tested here"
# What every verdict is called in one cell of a table; what has another label was not tested.
SIGNS = {SUPPORTED: "yes", REFUTED: "no", OPEN: "?", UNTESTABLE: "n/a"}
# The main claims in the words of a newcomer; others go by their name.
WORDS = {
    "single-task": "Single tasks",
    "variants": "Single tasks, kinds other than LoRA",
    "training-time": "Training time saved",
    "lmc-midpoint": "Half-way between two seeds",
    "merging-fusion": "Tasks merged, factors averaged",
    "pruning": "Adapters removed after training",
    "unstructured-pruning": "Entries set to zero after training",
    "dropout-stability": "Layers dropped at random",
    "balanced-contribution": "Imbalance of layers, lower by",
    "strategies": "Against the strongest other strategy",
}


@dataclass(frozen=True)
class Line:
    """A main claim on one suite, all its adapter kinds together.

    ``gain``, ``low``, ``high`` and ``margin`` are in ``unit``; NaN where there is none. ``paper``
    are the paper's gains by its own models and data, ``replicates`` how many seeds (or repeated
    timings) there are. ``sensitivity`` is what the suite shows of what the claim is about, in
    points, and ``needed`` how much it takes.
    """

    claim: str
    suite: str
    family: str
    words: str
    verdict: str
    reason: str
    unit: str
    gain: float
    low: float
    high: float
    margin: float
    replicates: int
    paper: tuple[float, ...] = ()
    sensitivity: float = math.nan
    needed: float = math.nan

    @property
    def number(self) -> str:
        """The gain with its sign and unit: ``+3.2 points``."""
        return f"{self.gain:+z.1f} {self.short_unit}"

    @property
    def numbers(self) -> str:
        """The gain and, in brackets, its interval."""
        return f"{self.number} ({self.interval})" if self.interval else self.number

    @property
    def short_unit(self) -> str:
        """The unit after a number."""
        return "%" if self.unit.startswith("%") else self.unit

    @property
    def interval(self) -> str:
        """`` to `` between both bounds; empty without them."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return ""
        return f"{self.low:+z.1f} to {self.high:+z.1f}"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a claims.json; CotoError where there is none, or something else."""
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CotoError(f"{path}: expected the list of results that the claims job writes")
    return rows


def lines_of(rows: Iterable[Mapping[Any, Any]]) -> list[Line]:
    """The main claims on each suite that has a verdict on them, in the order of the rows.

    Of several rows of a claim on a suite the first counts, which is of all adapter kinds together.
    """
    found: dict[tuple[str, str], Line] = {}
    for row in rows:
        place = str(row["claim"]), str(row["suite"])
        if row["role"] == "main" and row["suite"] and row["verdict"] in SIGNS:
            found.setdefault(place, _line(row))
    return list(found.values())


def _line(row: Mapping[Any, Any]) -> Line:
    direction = int(row["direction"])
    ends = [direction * _number(row[name]) for name in ("low", "high")][::direction]
    name = str(row["claim"])
    return Line(
        claim=name,
        suite=str(row["suite"]),
        family=str(row["family"]),
        words=WORDS.get(name, name if direction > 0 else f"{name}, lower by"),
        verdict=str(row["verdict"]),
        reason=str(row["reason"]),
        unit=str(row["unit"]),
        gain=direction * _number(row["effect"]),
        low=ends[0],
        high=ends[1],
        margin=_number(row["margin"]),
        replicates=int(row["n_seeds"]),
        paper=tuple(direction * float(value) for value in row.get("paper_effects", ())),
        sensitivity=_number(row.get("sensitivity")),
        needed=_number(row.get("sensitivity_needed")),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def suites_of(lines: Iterable[Line]) -> list[str]:
    """Suites in the order in which they first occur."""
    return list(dict.fromkeys(line.suite for line in lines))
