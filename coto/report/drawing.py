"""How figures look and how they are written: legible, colour-blind safe, the same bytes again."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from coto.report.settings import Settings, Style
from coto.report.writing import write_atomically

Frames = Mapping[str, pd.DataFrame]
Strategies = Mapping[str, Mapping[str, Any]]
Drawer = Callable[[Frames, Strategies, Settings], Figure]

FIGURES: dict[str, Drawer] = {}

# Okabe and Ito's palette, each colour with a marker and a hatch of its own, so that nothing is told
# by colour alone.
LOOKS: tuple[tuple[str, str, str], ...] = (
    ("#0072B2", "o", ""),
    ("#D55E00", "s", "//"),
    ("#009E73", "^", ".."),
    ("#CC79A7", "D", "xx"),
    ("#E69F00", "v", "\\\\"),
    ("#56B4E9", "P", "++"),
    ("#000000", "X", "oo"),
)

# How much of its colour a number of the paper keeps beside ours.
LIGHT = 0.4

_RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    # Ids inside the SVG come from this salt instead of a random one.
    "svg.hashsalt": "coto",
}


def figure(name: str) -> Callable[[Drawer], Drawer]:
    """Register a drawer under a name, which is also the name of its files."""

    def register(draw: Drawer) -> Drawer:
        FIGURES[name] = draw
        return draw

    return register


def look(strategies: list[str], strategy: str) -> tuple[str, str, str]:
    """Colour, marker and hatch of a strategy among those shown."""
    return LOOKS[strategies.index(strategy) % len(LOOKS)]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, drawn without a display."""
    empty = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(empty)
    return empty


def message(text: str) -> Figure:
    """A figure that says why there is nothing to see."""
    shown = new_figure(5.0, 1.4)
    shown.text(0.5, 0.5, text, ha="center", va="center", fontsize=10)
    return shown


def percent_axis(axes: Axes, label: str) -> None:
    """Label a vertical axis whose values are already percent."""
    axes.set_ylabel(f"{label} (%)")


def legend_above(shown: Figure, *panels: Axes) -> None:
    """One legend for the whole figure, above it, of what is labelled in some panels."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    shown.legend(
        list(entries.values()),
        list(entries),
        loc="outside upper center",
        ncols=min(len(entries), 4),
    )


def write_figure(
    draw: Drawer,
    frames: Frames,
    strategies: Strategies,
    settings: Settings,
    stem: Path,
    style: Style,
) -> list[Path]:
    """Draw and write ``stem.png`` and ``stem.svg``."""
    written = []
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_RC}):
        drawn = draw(frames, strategies, settings)
        # Arranged once for both files, as it takes as long as drawing.
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
            buffer = io.BytesIO()
            drawn.savefig(buffer, format=suffix[1:], dpi=style.dpi, metadata=metadata)
            write_atomically(stem.with_suffix(suffix), buffer.getvalue())
            written.append(stem.with_suffix(suffix))
    return written
