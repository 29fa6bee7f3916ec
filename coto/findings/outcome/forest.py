"""All main claims in one picture: effects with intervals and verdicts, by family and suite."""

import math
from collections.abc import Iterable
from itertools import groupby
from textwrap import shorten
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from coto.findings.outcome.lines import (
    OPEN,
    REFUTED,
    SIGNS,
    SUPPORTED,
    UNTESTABLE,
    Line,
    lines_of,
)
from coto.report.drawing import LIGHT, Strategies, figure, message, new_figure
from coto.report.records import Frames
from coto.report.settings import Settings

# Colour, marker and filling by verdict: no two of them look alike in grey.
LOOKS: dict[str, dict[str, Any]] = {
    SUPPORTED: {"color": "#0072B2", "marker": "o"},
    REFUTED: {"color": "#D55E00", "marker": "X"},
    OPEN: {"color": "#444444", "marker": "D", "markerfacecolor": "white"},
    UNTESTABLE: {"color": "#aaaaaa", "marker": "s", "markerfacecolor": "white"},
}
_PAPER: dict[str, Any] = {"color": "#009E73", "alpha": LIGHT, "linestyle": "none"}
_BAND, _GREY = "#e4e4e4", "#888888"
# In inches: the whole, its columns (claim and suite, panel, numbers), and the height of a row.
_WIDTH, _LEFT, _PANEL = 8.5, 3.3, 2.9
_ROW, _TITLE, _TICKS, _KEY = 0.19, 0.25, 0.2, 0.55
# How far beyond the largest effect of a panel intervals are shown, as a multiple of it.
_REACH = 2.5
_LETTER = 0.0625  # inches, on average, at 8 points


@figure("forest", needs=("claims",))
def draw_forest(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Every main claim on every suite: what CoTo gains over vanilla, with interval and verdict.

    To the right is what the paper claims; where less is better, signs are turned. The grey band is
    the margin, the smallest effect of interest. Light triangles are the paper's gains, of other
    models and data. An arrow ends an interval that leaves the panel; too few seeds have none.
    Greyed is what this run cannot test: what the suite shows with vanilla adapters of what the test
    takes, such as points lost by removing them all.
    """
    claims = frames.get("claims")
    lines = [] if claims is None else lines_of(claims.to_dict("records"))
    if not lines:
        return message("The claims were not tested.")
    families = [list(group) for _, group in groupby(lines, lambda line: line.family)]
    height = _KEY + sum(_TITLE + _TICKS + _ROW * len(family) for family in families)
    shown = new_figure(_WIDTH, height)
    shown.set_layout_engine("none")  # rows of one height in all panels
    top = height - _KEY
    for family in families:
        size = _ROW * len(family)
        top -= _TITLE + size
        place = (_LEFT / _WIDTH, top / height, _PANEL / _WIDTH, size / height)
        _draw_family(shown.add_axes(place), family)
        top -= _TICKS
    _draw_key(shown, lines)
    return shown


def _draw_family(axes: Axes, lines: list[Line]) -> None:
    """A row per line, from the top; names to the left, numbers to the right."""
    low, high = limits(lines)
    axes.set(xlim=(low, high), ylim=(len(lines) - 0.5, -0.5))
    axes.axvline(0, color="#000000", linewidth=0.8)
    for y, line in enumerate(lines):
        _draw_line(axes, y, line)
    axes.set_yticks(range(len(lines)), [shorten(x.suite, 16, placeholder="…") for x in lines])
    axes.tick_params(labelsize=8, length=0, pad=3)
    axes.tick_params(axis="y", pad=6)  # beside an arrow
    for line, tick in zip(lines, axes.get_yticklabels(), strict=True):
        tick.set_color(_GREY if line.verdict == UNTESTABLE else "#000000")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    units = " and ".join(dict.fromkeys(line.unit for line in lines))
    title = f"{lines[0].family}, {units}"
    axes.set_title(title, loc="left", fontsize=8.5, pad=3, weight="bold")
    y, room = 0, _LEFT - 0.25 - _LETTER * min(16, max(len(line.suite) for line in lines))
    for _, group in groupby(lines, lambda line: line.claim):
        of_claim = list(group)
        _beside(axes, 0.08 - _LEFT, y, of_claim[0].words, room)
        y += len(of_claim)
        if y < len(lines):
            axes.axhline(y - 0.5, color="#cccccc", linewidth=0.5)


def _draw_line(axes: Axes, y: int, line: Line) -> None:
    low, high = axes.get_xlim()
    style = LOOKS[line.verdict]
    if math.isfinite(line.margin):
        left, right = max(-line.margin, low), min(line.margin, high)
        axes.add_patch(Rectangle((left, y - 0.5), right - left, 1, facecolor=_BAND, linewidth=0))
    for value in line.paper:
        inside = low <= value <= high
        marker = "^" if inside else "<" if value < low else ">"
        at = min(max(value, low), high)
        axes.plot(at, y, marker, markersize=7 if inside else 5, clip_on=False, **_PAPER)
    if math.isfinite(line.gain):
        _draw_interval(axes, y, line)
        axes.plot(line.gain, y, markersize=5.5, linestyle="none", zorder=4, **style)
    tested = line.verdict != UNTESTABLE
    colour = "#000000" if tested else _GREY
    _beside(axes, _PANEL + 0.12, y, SIGNS[line.verdict], 0.4, colour=colour)
    room = _WIDTH - _LEFT - _PANEL - 0.5
    _beside(axes, _PANEL + 0.45, y, _numbers(line) if tested else _why(line), room, colour)


def _draw_interval(axes: Axes, y: int, line: Line) -> None:
    """The interval as far as the panel goes; an arrow where it goes on."""
    if not has_interval(line):
        return
    low, high = axes.get_xlim()
    ends = max(line.low, low), min(line.high, high)
    colour = LOOKS[line.verdict]["color"]
    axes.plot(ends, (y, y), color=colour, linewidth=1.5, solid_capstyle="butt", zorder=3)
    for end, beyond, marker in ((low, line.low < low, "<"), (high, line.high > high, ">")):
        if beyond:
            axes.plot(end, y, marker, color=colour, markersize=4, clip_on=False)


def has_interval(line: Line) -> bool:
    """Whether there is an interval: too few seeds have none."""
    return math.isfinite(line.low) and math.isfinite(line.high)


def limits(lines: Iterable[Line]) -> tuple[float, float]:
    """Where a panel begins and ends: at its intervals, but not much beyond its effects."""
    lines = list(lines)
    margins = [line.margin for line in lines if math.isfinite(line.margin)]
    gains = [line.gain for line in lines if math.isfinite(line.gain)]
    least = 1.5 * max(margins, default=1.0)
    reach = _REACH * max([least, *map(abs, gains)])
    ends = [end for line in lines if has_interval(line) for end in (line.low, line.high)]
    shown = [*(min(max(end, -reach), reach) for end in ends), *gains, -least, least]
    space = 0.04 * (max(shown) - min(shown))
    return min(shown) - space, max(shown) + space


def _numbers(line: Line) -> str:
    """Gain and interval, or of how few seeds the gain is."""
    if not math.isfinite(line.gain):
        return line.reason
    if has_interval(line):
        return f"{line.gain:+z.1f} [{line.low:+z.1f}, {line.high:+z.1f}]"
    return f"{line.gain:+z.1f} ({line.replicates} seed{'s' if line.replicates > 1 else ''})"


def _why(line: Line) -> str:
    """Why there can be no test: how little the suite shows of what it would take, or the reason."""
    if math.isfinite(line.sensitivity):
        return f"shows {line.sensitivity:+z.1f} points, needs {line.needed:g}"
    return line.reason


def _beside(axes: Axes, x: float, y: int, text: str, room: float, colour: str = "#000000") -> None:
    """Text at the height of a row, its left end `x` inches right of the panel's left end."""
    text = shorten(text, int(room / _LETTER), placeholder=" …")
    style: dict[str, Any] = {"fontsize": 8, "va": "center", "color": colour}
    axes.text(x / _PANEL, y, text, transform=axes.get_yaxis_transform(), **style)


def _draw_key(shown: Figure, lines: list[Line]) -> None:
    """What marks mean, above all panels."""
    entries: list[Any] = [
        Line2D([], [], linewidth=1.5, markersize=5.5, label=f"{verdict} ({SIGNS[verdict]})", **look)
        for verdict, look in LOOKS.items()
        if any(line.verdict == verdict for line in lines)
    ]
    entries.append(Patch(facecolor=_BAND, label="margin"))
    if any(line.paper for line in lines):
        entries.append(Line2D([], [], marker="^", markersize=7, label="paper", **_PAPER))
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 1)}
    shown.legend(handles=entries, ncols=6, fontsize=8, columnspacing=1.2, **place)
    about = "CoTo minus vanilla; to the right as the paper claims"
    height = shown.get_size_inches()[1]
    at = (_LEFT + _PANEL / 2) / _WIDTH, 1 - (_KEY - 0.2) / height
    shown.text(*at, about, ha="center", va="center", fontsize=8)
