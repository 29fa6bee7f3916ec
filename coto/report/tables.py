"""The tables, found by name.

A table is a function from rows of the stages and the settings to a :class:`Table`; to add one,
write the function in a ``table_*`` module and decorate it with its name. A table without
measurements says why instead.
"""

# Importing a module registers its tables.
from coto.report import (
    table_merging,
    table_pruning,
    table_scores,
    table_subnetworks,
    table_time,
    table_weights,
)
from coto.report.table_base import TABLES, Builder, Frames

__all__ = [
    "TABLES",
    "Builder",
    "Frames",
    "table_merging",
    "table_pruning",
    "table_scores",
    "table_subnetworks",
    "table_time",
    "table_weights",
]
