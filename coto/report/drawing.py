"""How figures look and how they are written: legible, colour-blind safe, the same bytes again."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from coto.config.models import Figures, Strategy
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.writing import write_atomically

Strategies = Mapping[str, Strategy]
"""The config's strategies by name."""
Drawer = Callable[[Frames, Strategies, Settings], Figure]

# Okabe and Ito's palette, each colour with a marker and a hatch of its own, so that nothing is told
# by colour alone.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
LOOKS: tuple[tuple[str, str, str], ...] = tuple(zip(_COLOURS, "os^DvPX", _HATCHES, strict=True))

# How much of its colour a number of the paper keeps beside ours.
LIGHT = 0.4
_RC: dict[Any, Any] = {
    **{"font.size": 9, "axes.titlesize": 9, "hatch.linewidth": 0.6, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True},
    **{"axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.6},
    "svg.hashsalt": "coto",  # instead of a random one for the ids inside the SVG
}


def figure(
    name: str, *, needs: tuple[str, ...] = (), rebuttal: str = ""
) -> Callable[[Drawer], Drawer]:
    """Mark a function as the one that draws a figure, as :func:`coto.report.tables.table` does."""
    return lambda draw: draw


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
    picture = new_figure(5.0, 1.4)
    picture.text(0.5, 0.5, text, ha="center", va="center", fontsize=10)
    return picture


def legend_above(picture: Figure, *panels: Axes) -> None:
    """One legend for the whole figure, above it, of what is labelled in some panels."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    columns = min(len(entries), 4)
    picture.legend(entries.values(), entries, loc="outside upper center", ncols=columns)


def write_figure(draw: Callable[[], Figure], stem: Path, style: Figures) -> list[Path]:
    """Draw and write ``stem.png`` and ``stem.svg``."""
    files = stem.with_suffix(".png"), stem.with_suffix(".svg")
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_RC}):
        drawn = draw()
        # Arranged once for both files, as it takes as long as drawing.
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")
        for file, unwritten in zip(files, ("Software", "Date"), strict=True):
            buffer, form = io.BytesIO(), file.suffix[1:]
            drawn.savefig(buffer, format=form, dpi=style.dpi, metadata={unwritten: None})
            write_atomically(file, buffer.getvalue())
    return list(files)
