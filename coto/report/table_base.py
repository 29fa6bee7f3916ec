"""What all tables share: their registry, their notes, the order of their lines."""

from collections.abc import Callable, Mapping

import pandas as pd

from coto.report.quantities import ARM, ranked
from coto.report.settings import Settings, Style
from coto.report.suites import descriptions
from coto.report.writing import Table

Frames = Mapping[str, pd.DataFrame]
Builder = Callable[[Frames, Settings, Style], Table]

TABLES: dict[str, Builder] = {}

PERCENT = "Percent. In brackets: {level:.0f} % intervals."
OVER_SEEDS = (
    "Arms: Student's t interval over seeds; Average: of the seeds' averages over tasks. "
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


def ordered(tidy: pd.DataFrame) -> pd.DataFrame:
    """Sort by the display order of suites, adapters and spaces; within them as it stands."""
    for column in ("space", "adapter", "suite"):
        if column in tidy:
            order = ranked(column, list(tidy[column]))
            tidy = tidy.sort_values(column, key=lambda c, o=order: c.map(o.index), kind="stable")
    return tidy.reset_index(drop=True)


def notes(settings: Settings, shown: pd.DataFrame, *more: str) -> tuple[str, ...]:
    """The notes of a comparison: how to read it, what the suites are, what is unusual."""
    found = [PERCENT.format(level=100 * settings.confidence), OVER_SEEDS, *more]
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
