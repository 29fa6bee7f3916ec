"""Reading numbers back out of figures, and out of the records that they are drawn from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text

Records = dict[str, list[Path]]


def rows(records: Records, stage: str, part: str = "rows", **wanted: Any) -> list[dict[str, Any]]:
    found = [row for path in records[stage] for row in json.loads(path.read_text()).get(part, [])]
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]


def panel(figure: Figure, title: str, place: int = 0) -> Axes:
    """A panel whose title contains some text, or the one that is so many further."""
    axes = [a for a in figure.axes if a.get_visible()]
    titles = [a.get_title(loc) for a in axes for loc in ("left", "center")]
    hits = [i // 2 for i, text in enumerate(titles) if title in text]
    assert hits, titles
    return axes[hits[0] + place]


def heights(axes: Axes, label: str) -> dict[int, float]:
    """Heights of the bars with a label, by the group that they stand in."""
    return {
        round(bar.get_x() + bar.get_width() / 2): bar.get_height()
        for bars in axes.containers
        if isinstance(bars, BarContainer) and bars.get_label() == label
        for bar in bars
        if np.isfinite(bar.get_height())
    }


def dots(axes: Axes, label: str) -> dict[int, float]:
    """Heights of the marks with a label, by the group that they stand in."""
    return {
        round(x): y
        for marks in axes.lines
        if marks.get_label() == label
        for x, y in np.asarray(marks.get_xydata()).tolist()
        if np.isfinite(y)
    }


def levels(axes: Axes, label: str) -> list[float]:
    """Heights of the horizontal lines with a label."""
    return [
        float(segment[0, 1])
        for lines in axes.collections
        if isinstance(lines, LineCollection) and lines.get_label() == label
        for segment in lines.get_segments()
    ]


def intervals(axes: Axes) -> list[tuple[float, float]]:
    """Ends of the vertical lines of a panel."""
    segments = [
        segment
        for lines in axes.collections
        if isinstance(lines, LineCollection)
        for segment in lines.get_segments()
        if len(segment) == 2 and np.isfinite(segment).all() and segment[0, 0] == segment[1, 0]
    ]
    return [(float(segment[0, 1]), float(segment[1, 1])) for segment in segments]


def line(axes: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def texts(figure: Figure) -> str:
    """All that is written in a figure, legends among it."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def all_heights(axes: Axes, label: str) -> list[float]:
    return [
        bar.get_height()
        for bars in axes.containers
        if isinstance(bars, BarContainer) and bars.get_label() == label
        for bar in bars
    ]


def mesh(axes: Axes) -> np.ndarray:
    (mesh,) = [found for found in axes.collections if isinstance(found, QuadMesh)]
    return np.asarray(mesh.get_array())
