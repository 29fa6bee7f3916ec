"""Records of benchmarks as a table, a figure, and the tables of docs/performance.md."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from benchmarks.common.harness import Row
from benchmarks.common.project import ROOT
from coto.config.models import Figures
from coto.errors import CotoError
from coto.report.drawing import LOOKS, new_figure, write_figure
from coto.report.writing import markdown_table, write_atomically

KEPT = ROOT / "results" / "reference" / "benchmarks"
PAGE = ROOT / "docs" / "performance.md"
_BLOCK = r"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)"
# How columns are headed; those that a record has besides are shown under their own names.
_HEADS = {
    "case": "case",
    "way": "way",
    "against": "against",
    "ratio": "time ÷ time",
    "rounds": "rounds",
    "seconds": "s",
    "seconds_against": "s (against)",
    "forward": "forward",
    "backward": "backward",
    "memory_mb": "MB",
    "memory_mb_against": "MB (against)",
}


def read(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def write(folder: Path) -> list[Path]:
    """Write ``benchmarks.md``, ``.csv`` and the figure of a folder's records beside them.

    CotoError if there is no record.
    """
    records = read(folder)
    if not records:
        raise CotoError(f"folder = {str(folder)!r}: expected records of benchmarks")
    text = "# Benchmarks\n\n" + "\n".join(f"## {r['stage']}\n\n{section(r)}" for r in records)
    write_atomically(folder / "benchmarks.md", text)
    rows = [{"benchmark": one["stage"], **row} for one in records for row in one["rows"]]
    write_atomically(folder / "benchmarks.csv", pd.DataFrame(rows).to_csv(index=False))
    figures = write_figure(lambda: draw(records), folder / "benchmarks", Figures())
    return [folder / "benchmarks.md", folder / "benchmarks.csv", *figures]


def keep(folder: Path) -> None:
    """Keep a folder's records as those that docs/performance.md quotes, and quote them."""
    KEPT.mkdir(parents=True, exist_ok=True)
    for record in read(folder):
        source = folder / f"{record['stage']}.json"
        if source.resolve().parent != KEPT.resolve():
            shutil.copyfile(source, KEPT / source.name)
    write_atomically(PAGE, quoted(PAGE.read_text()))


def quoted(page: str, folder: Path = KEPT) -> str:
    """The page with every kept record's section between its two marks."""
    for record in read(folder):
        block = re.compile(_BLOCK.format(name=record["stage"]), re.DOTALL)
        text = section(record)
        page = block.sub(lambda found: f"{found[1]}{text}{found[2]}", page)  # noqa: B023
    return page


def section(record: dict[str, Any]) -> str:
    """How a record was made, and its table."""
    known = record["environment"]
    flags = ", ".join(known["flags"]) or "neither amx nor avx512_bf16"
    torch = known["packages"]["torch"]
    about = (
        f"`{record['command']}` on {known['hardware']} ({flags}), {known['device']}, "
        f"{known['threads']} of {known['cpus']} threads, {known['precision']}, torch {torch}, "
        f"commit {known['commit']}{', reduced sizes' if record['quick'] else ''}."
    )
    return f"{about}\n\n{markdown_table(table(record['rows']))}\n"


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a person reads them: the interval beside its ratio, empty columns left out."""
    lines = []
    for row in rows:
        line = {name: row[name] for name in _HEADS if name in row}
        line |= {n: v for n, v in row.items() if n not in (*_HEADS, "low", "high", "x", "position")}
        lines.append({_HEADS.get(n, n.replace("_", " ")): _text(v) for n, v in line.items()})
        if row.get("low") is not None:
            head = _HEADS["ratio"] if "ratio" in row else "difference"
            lines[-1][head] += f" [{_text(row['low'])}, {_text(row['high'])}]"
    frame = pd.DataFrame(lines).fillna("")
    return frame.loc[:, (frame != "").any()]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def draw(records: list[dict[str, Any]]) -> Figure:
    """A panel of ratios per record, and one of CoTo's saving by depth where it was measured."""
    panels = [(one["stage"], _labelled(one["rows"])) for one in records]
    panels = [(name, rows) for name, rows in panels if rows]
    depths = [row for one in records for row in one["rows"] if "predicted" in row]
    heights = [0.8 + 0.19 * len(rows) for _, rows in panels] + [2.6] * bool(depths)
    picture = new_figure(7.0, sum(heights) or 1.0)
    axes = picture.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (name, rows) in zip(axes, panels, strict=False):
        _draw_ratios(axis, name, rows)
    if depths:
        _draw_depths(axes[-1], depths)
    return picture


def _labelled(rows: list[Row]) -> list[tuple[str, Row]]:
    """Rows with a ratio, each with its words; those by depth have a panel of their own."""
    return [
        (f"{row['case']}: {row['way']} ÷ {row['against']}", row)
        for row in rows
        if "ratio" in row and "predicted" not in row
    ]


def _draw_ratios(axis: Axes, name: str, rows: list[tuple[str, Row]]) -> None:
    colour, marker, _ = LOOKS[0]
    for place, (_, row) in enumerate(rows):
        axis.plot(row["ratio"], place, marker, color=colour, markersize=4)
        if row["low"] is not None:
            axis.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=7)
    axis.set(title=name, xlabel="time ÷ time", xscale="log", ylim=(len(rows) - 0.5, -0.5))
    for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        ticks(StrMethodFormatter("{x:g}"))


def _draw_depths(axis: Axes, rows: list[Row]) -> None:
    for (colour, marker, _), way in zip(LOOKS, ("coto", "floor"), strict=False):
        own = [row for row in rows if row["way"] == way]
        x, ratio = [row["x"] for row in own], [row["ratio"] for row in own]
        if all(row["low"] is not None for row in own):
            spread = [[r["ratio"] - r["low"] for r in own], [r["high"] - r["ratio"] for r in own]]
            axis.errorbar(x, ratio, spread, fmt="none", ecolor=colour, linewidth=1)
        axis.plot(x, ratio, marker=marker, color=colour, label=f"{way}, measured")
    own = [row for row in rows if row["way"] == "coto"]
    style: dict[str, Any] = {"color": "black", "linestyle": "--", "label": "predicted"}
    axis.plot([row["x"] for row in own], [row["predicted"] for row in own], **style)
    axis.set(xlabel="blocks", ylabel="time ÷ vanilla's", xscale="log", title="saving by depth")
    axis.set_xticks([row["x"] for row in own], [str(row["x"]) for row in own])
    axis.legend(frameon=False)
