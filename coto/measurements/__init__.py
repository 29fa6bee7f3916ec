"""Measurements: one file each, found by name in :data:`coto.measurements.base.MEASUREMENTS`."""

from collections.abc import Mapping
from importlib import import_module

from coto.measurements.base import MEASUREMENTS, Columns
from coto.registry import file_of, modules_of

for _module in modules_of(__name__):
    _file = file_of(_module)
    # The others are what measurements share, and import torch.
    if _file is not None and "MEASUREMENTS.add(\n" in _file.read_text():
        import_module(_module)


def columns() -> Mapping[str, Columns]:
    """Columns of every record by its name."""
    return {name: found for one in MEASUREMENTS.values() for name, found in one.columns.items()}


__all__ = ["MEASUREMENTS", "Columns", "columns"]
