"""What a run found, in words and as one screen of text.

Nothing here is slow to import: a run's last words come at once.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill, shorten

from tabulate import tabulate

from coto.findings.outcome.lines import (
    OPEN,
    REFUTED,
    SIGNS,
    SUPPORTED,
    UNTESTABLE,
    Line,
    lines_of,
    read_rows,
    suites_of,
)

WIDTH = 100


def headline(lines: Sequence[Line]) -> str:
    """The outcome in two sentences: how many verdicts of each kind, and the clearest of them."""
    if not lines:
        return "No claim was tested."
    counts = Counter(line.verdict for line in lines)
    parts = [f"{counts[verdict]} came out {verdict}" for verdict in SIGNS if counts[verdict]]
    parts = parts[:1] + [part.replace("came out ", "") for part in parts[1:]]
    tests = f"{len(lines)} test{'s' if len(lines) > 1 else ''}"
    suites = suites_of(lines)
    where = f"{len(suites)} suites ({', '.join(suites)})" if len(suites) > 1 else suites[0]
    first = f"Of {tests} of the paper's main claims on {where}, {_listed(parts)}."
    clearest = [
        f"{side}: {line.words[0].lower()}{line.words[1:]} on {line.suite}, {line.numbers}"
        for side, verdict in (("in favour", SUPPORTED), ("against", REFUTED))
        if (line := _strongest(x for x in lines if x.verdict == verdict))
    ]
    second = f"Clearest {'; clearest '.join(clearest)}" if clearest else "None is decided yet"
    return f"{first} {second}."


def findings(lines: Sequence[Line], count: int = 3) -> list[str]:
    """The strongest findings as sentences, one per claim, strongest first.

    What is decided goes before what is not; the strongest is furthest, in margins, from where the
    verdict would change. If CoTo does harm anywhere, one of the sentences says so.
    """
    order = sorted(lines, key=_strength, reverse=True)
    chosen = list({line.claim: line for line in reversed(order)}.values())
    chosen = sorted(chosen, key=_strength, reverse=True)[:count]
    harms = [line for line in order if _harms(line)]
    if harms and chosen and not any(map(_harms, chosen)):
        # Its own claim may be among the chosen, with another suite.
        chosen = [line for line in chosen if line.claim != harms[0].claim][: count - 1] + harms[:1]
    return [f"{_sentence(line)}." for line in chosen]


def _strongest(lines: Iterable[Line]) -> Line | None:
    return max(lines, key=_strength, default=None)


def _harms(line: Line) -> bool:
    return line.verdict == REFUTED and line.high < 0


def _strength(line: Line) -> tuple[int, float]:
    """What orders findings: what was decided, and by how many margins."""
    decided = {SUPPORTED: 3, REFUTED: 3 if _harms(line) else 2, OPEN: 1}.get(line.verdict, 0)
    if line.verdict == SUPPORTED:
        distance = line.low
    elif _harms(line):
        distance = -line.high
    elif line.verdict == REFUTED:
        distance = line.margin - line.high
    else:
        distance = abs(line.gain)
    margins = distance / line.margin
    return decided, margins if math.isfinite(margins) else 0.0


def _sentence(line: Line) -> str:
    """One finding, without its full stop."""
    about = f"{line.words} ({line.suite})"
    if line.verdict == UNTESTABLE or not math.isfinite(line.gain):
        return f"{about}: {line.verdict}, {line.reason}"
    what = {
        SUPPORTED: "CoTo is better",
        REFUTED: f"no gain of {line.margin:.1f} {line.short_unit} or more",
    }.get(line.verdict, "undecided")
    return f"{about}: {'CoTo is worse' if _harms(line) else what}, {line.numbers}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def screen(lines: Sequence[Line], results: Path) -> str:
    """Verdicts as one screen of plain text, the strongest findings, and where to look next."""
    parts = _tables(lines)
    key = ", ".join(f"{sign} = {verdict}" for verdict, sign in SIGNS.items())
    parts.append(fill(f"{key}. Gain of CoTo over vanilla in points, or as named.", WIDTH))
    said = findings(lines)
    if said:
        bullets = [fill(f"- {text}", WIDTH, subsequent_indent="  ") for text in said]
        parts.append("\n".join(["Strongest findings", *bullets]))
    nearby = {"report": "report.html", "claims": "claims.md", "picture": "figures/forest.png"}
    there = {name: results / path for name, path in nearby.items() if (results / path).is_file()}
    if there:
        parts.append("\n".join(f"{f'{name}:':<9}{path}" for name, path in there.items()))
    return "\n\n".join(parts) + "\n"


def _tables(lines: Sequence[Line]) -> list[str]:
    """Claims by suites; as many suites beside each other as fit."""
    found: list[str] = []
    group: list[str] = []
    for suite in suites_of(lines):
        wider = _table(lines, [*group, suite])
        if group and max(map(len, wider.splitlines())) > WIDTH:
            group = []
            found.append(_table(lines, [suite]))
        else:
            found[-1:] = [wider]
        group.append(suite)
    return found


def _table(lines: Sequence[Line], suites: Sequence[str]) -> str:
    """The table of some suites; claims that none of them has are left out."""
    by_claim: dict[str, dict[str, Line]] = {}
    for line in lines:
        if line.suite in suites:
            by_claim.setdefault(line.claim, {})[line.suite] = line
    rows = []
    for cells in by_claim.values():
        first = next(iter(cells.values()))
        unit = "" if first.short_unit == "points" else f" ({first.short_unit})"
        row = [shorten(f"{first.words}{unit}", 48, placeholder=" …")]
        rows.append(row + [_cell(cells[suite]) if suite in cells else "" for suite in suites])
    heads = ["claim", *(shorten(suite, 16, placeholder=" …") for suite in suites)]
    text = tabulate(rows, heads, tablefmt="simple", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _cell(line: Line) -> str:
    number = f"{line.gain:+z.1f}" if math.isfinite(line.gain) else ""
    return f"{SIGNS[line.verdict]:<4}{number:>6}".rstrip()


def show(results: Path) -> None:
    """Print :func:`screen` of a results folder, whatever letters the output takes."""
    text = screen(lines_of(read_rows(results / "claims.json")), results)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), end="")


def main(arguments: Sequence[str]) -> int:
    """``python -m coto verdicts [RESULTS]``: print the verdicts of a results folder."""
    parser = argparse.ArgumentParser(prog="python -m coto verdicts", description=main.__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"))
    show(parser.parse_args(arguments).results)
    return 0
