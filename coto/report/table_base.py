"""What all tables share: their registry, their notes, the order of their lines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from coto.report.comparison import compare, overall
from coto.report.display import FRACTION, side_by_side
from coto.report.quantities import ARM, ORDER, ranked
from coto.report.settings import Settings, Style
from coto.report.suites import descriptions
from coto.report.writing import Table

Frames = Mapping[str, pd.DataFrame]
Builder = Callable[[Frames, Settings, Style], Table]

TABLES: dict[str, Builder] = {}

PERCENT = "Percent. In brackets: {level:.0f} % intervals."
MIXED = "Scores and shares in percent, the rest as named. In brackets: {level:.0f} % intervals."
NUMBERS = "In brackets: {level:.0f} % intervals."
OVER_SEEDS = "Arms: Student's t interval over seeds; Average: of the seeds' averages over tasks."
DIFFERENCES = (
    "Differences are paired by seed; that of Average is the paired effect over tasks and seeds "
    "with the bootstrap interval that the claims use."
)
COLLAPSED = "† A run of this mean is flagged, for example collapsed: one class for every item."
TWO_VALUES = (
    "Two values give a very wide Student interval, which may leave the range of possible scores."
)
CONTEXT = "The paper's rows are context, not targets: other backbone, data and training length."


def table(name: str) -> Callable[[Builder], Builder]:
    """Register a builder under a name, which is also the name of its files."""

    def register(builder: Builder) -> Builder:
        TABLES[name] = builder
        return builder

    return register


def ordered_by_suite(tidy: pd.DataFrame) -> pd.DataFrame:
    """Bring a suite's lines together, in the order in which they stand."""
    order = list(dict.fromkeys(tidy["suite"]))
    return tidy.sort_values(
        "suite", key=lambda column: column.map(order.index), kind="stable", ignore_index=True
    )


def ordered(tidy: pd.DataFrame, *split_by: str) -> pd.DataFrame:
    """Sort by the display order of suites, adapters and what splits them; else as it stands."""
    tidy = tidy.reset_index(drop=True)
    for column in (*reversed(split_by), "adapter", "suite"):
        names = list(dict.fromkeys(tidy[column]))
        order = ranked(column, names) if column in ("suite", "adapter", *ORDER) else names
        position = tidy[column].map({name: i for i, name in enumerate(order)})
        tidy = tidy.loc[position.sort_values(kind="stable").index].reset_index(drop=True)
    return tidy


@dataclass(frozen=True)
class Quantity:
    """Rows of a quantity, its name in tables, its unit, and whether arms are compared by it."""

    name: str
    rows: pd.DataFrame
    unit: str = FRACTION
    differences: bool = True


def compared(
    quantities: Sequence[Quantity], settings: Settings, split_by: Sequence[str] = ()
) -> pd.DataFrame:
    """:func:`compare` for quantities, at least one with rows; adds ``quantity`` and ``unit``."""
    parts = [
        compare(one.rows, settings, split_by, differences=one.differences).assign(
            quantity=one.name, unit=one.unit
        )
        for one in quantities
        if len(one.rows)
    ]
    return pd.concat(parts, ignore_index=True)


def laid_out(
    title: str,
    lines: pd.DataFrame,
    curves: pd.DataFrame,
    headings: Mapping[str, str],
    settings: Settings,
    style: Style,
    *told: str,
) -> Table:
    """A table of several quantities: averages over tasks for people, tasks and curves in the CSV.

    Args:
        title: one line.
        lines: of :func:`compared`, and of the paper.
        curves: further lines for the CSV.
        headings: of the columns that split the comparison, in the order of the lines.
        settings: of the notes.
        style: of the numbers.
        told: notes.
    """
    paper = lines["kind"] == "paper"
    by = [*headings, "quantity"]
    shown = ordered(pd.concat([overall(lines[~paper], by), lines[paper]]), *by)
    index = {"adapter": "adapter", **headings, "quantity": "quantity", "task": "task"}
    display = side_by_side(shown, index, style.decimals)
    if not paper.any():
        display = display.drop(columns="source")
    data = pd.concat([part for part in (lines, curves) if len(part)], ignore_index=True)
    return Table(title, data, display, notes(settings, shown, *told))


def notes(settings: Settings, shown: pd.DataFrame, *more: str) -> tuple[str, ...]:
    """The notes of a comparison: how to read it, what the suites are, what is unusual."""
    units = set(shown.get("unit", [FRACTION]))
    reading = PERCENT if units == {FRACTION} else MIXED if FRACTION in units else NUMBERS
    found = [reading.format(level=100 * settings.confidence), OVER_SEEDS]
    if shown["difference"].notna().any():
        found.append(DIFFERENCES)
    found += more
    if (shown["n_values"] == 2).any():
        found.append(TWO_VALUES)
    if (shown["kind"] == "paper").any():
        found.append(CONTEXT)
    if (shown["flagged"] > 0).any():
        found.append(COLLAPSED)
    return (*found, *descriptions(list(dict.fromkeys(shown["suite"])), settings))


def empty(title: str, reason: str) -> Table:
    """A table without measurements, which says why."""
    columns = [*ARM, "kind", "mean"]
    return Table(title, pd.DataFrame(columns=columns), pd.DataFrame(), (reason,))
