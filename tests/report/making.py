"""Tables, figures and claims made of records or of frames."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from coto.config.models import Figures, Strategy, Tables
from coto.findings import FIGURES, TABLES
from coto.findings.make import make_figure, make_table
from coto.report.settings import Settings
from coto.report.writing import Table

Records = dict[str, list[Path]]


def build(name: str, frames: dict[str, pd.DataFrame], settings: Settings, **style: Any) -> Table:
    """A table of what was read."""
    table: Table = TABLES[name].load()(frames, settings, Tables(**style))
    return table


def draw_figure(
    name: str, frames: dict[str, pd.DataFrame], settings: Settings, **strategies: Strategy
) -> Figure:
    """A figure of what was read."""
    figure: Figure = FIGURES[name].load()(frames, strategies, settings)
    return figure


def needed(records: Records, needs: tuple[str, ...]) -> Records:
    """The records that a table or figure is given by its job: those that it names."""
    return {name: records[name] for name in needs if name in records}


def make_tables(records: Records, folder: Path, settings: Settings, **style: Any) -> list[Path]:
    """Every table, each from the records that it names."""
    return [
        path
        for name, table in TABLES.items()
        for path in make_table(
            name, needed(records, table.needs), folder / name, Tables(**style), settings
        )
    ]


def make_figures(
    records: Records, folder: Path, strategies: dict[str, Strategy], dpi: int
) -> list[Path]:
    """Every figure, each from the records that it names."""
    return [
        path
        for name, figure in FIGURES.items()
        for path in make_figure(
            *(name, needed(records, figure.needs), folder / name, strategies),
            *(Figures(dpi=dpi), Settings()),
        )
    ]
