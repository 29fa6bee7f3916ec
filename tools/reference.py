"""``python -m tools.reference [RESULTS]``: keep a run's report as the one that is quoted.

Copies what the report of RESULTS is made of to ``results/reference/``, and writes from it the
outcome in README and the tables in docs/results.md, so that no number there is typed by hand.
Without RESULTS it only writes both texts.
"""

import json
import math
import re
import shutil
import sys
from pathlib import Path
from textwrap import fill

import pandas as pd

from coto.findings import FIGURES
from coto.findings.outcome.lines import Line, lines_of, read_rows, suites_of
from coto.findings.outcome.words import headline
from coto.report.writing import markdown_table, write_atomically

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
# Shown in docs/results.md; the others are linked.
SHOWN = ("pruning", "merging", "interpolation")


def keep(results: Path) -> None:
    """Copy the report of a run, and what its records say about the machine."""
    # The search of learning rates is a run of its own: its result stays until there is a new one.
    for part in ("tables", "figures"):
        shutil.rmtree(REFERENCE / part, ignore_errors=True)
    for pattern in ("claims.*", "tables/*.csv", "tables/*.md", "figures/*.png"):
        for source in sorted(results.glob(pattern)):
            target = REFERENCE / source.relative_to(results)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    search = results / "lr-search" / "tables" / "learning_rate.md"
    if search.is_file():
        shutil.copyfile(search, REFERENCE / "learning_rate.md")
    # A study's runs are no part of the reference run.
    claims = json.loads((REFERENCE / "claims.json").read_text())
    suites = sorted({row["suite"] for row in claims} - {""})
    records = [
        json.loads(path.read_text())
        for suite in suites
        for path in sorted(results.glob(f"{suite}/*/*/lr*/seed*/train.json"))
    ]
    environment = records[0]["environment"]
    names = ("packages", "python", "commit", "hardware", "cpus", "device", "precision", "threads")
    machine = {name: environment[name] for name in names}
    machine["training_runs"] = len(records)
    write_atomically(REFERENCE / "machine.json", json.dumps(machine, indent=1) + "\n")


def outcome() -> str:
    """What came out, in two sentences, and on which machine."""
    return fill(f"{headline(_lines())} {_machine()}", 110, break_on_hyphens=False)


def tables() -> str:
    """The generated part of docs/results.md: verdicts and scores by suite, then figures."""
    lines = _lines()
    parts = [outcome(), _picture("forest")]
    for suite in suites_of(lines):
        parts += [f"## {suite}", _verdicts([line for line in lines if line.suite == suite])]
        parts += ["Scores of single tasks:", _scores(suite)]
    parts += ["## Figures", *map(_picture, SHOWN)]
    kept = sorted(path.stem for path in (REFERENCE / "figures").glob("*.png"))
    more = [
        f"[{name}](../results/reference/figures/{name}.png)"
        for name in kept
        if name not in (*SHOWN, "forest")
    ]
    return "\n\n".join([*parts, f"Also: {', '.join(more)}."] if more else parts)


def _lines() -> list[Line]:
    return lines_of(read_rows(REFERENCE / "claims.json"))


def _machine() -> str:
    machine = json.loads((REFERENCE / "machine.json").read_text())
    where = f"{machine['hardware']}, {machine['device']}, {machine['precision']}"
    runs, torch = machine["training_runs"], machine["packages"]["torch"]
    return f"{runs} training run{'s' if runs > 1 else ''} on {where}, torch {torch}."


def _picture(name: str) -> str:
    """A figure with the first sentence of its caption."""
    about = " ".join(FIGURES[name].caption.partition("\n\n")[0].split())
    return f"![{about}](../results/reference/figures/{name}.png)"


def _verdicts(lines: list[Line]) -> str:
    """The main claims of one suite, on all its adapter kinds together."""
    rows = [
        {
            "claim": line.words,
            "gain in the paper": ", ".join(f"{value:+.1f}" for value in line.paper),
            "gain here": line.number if math.isfinite(line.gain) else "",
            "interval": line.interval,
            "seeds": str(line.replicates or ""),
            "verdict": f"**{line.verdict}**",
            "why": line.reason,
        }
        for line in lines
    ]
    return markdown_table(pd.DataFrame(rows))


def _scores(suite: str) -> str:
    """The suite's part of the table of single-task scores, as it stands there."""
    text = (REFERENCE / "tables" / "single_task.md").read_text()
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = sections.get(suite, text)  # of a run with one suite there are no sections
    return "\n".join(line for line in found.splitlines() if line.startswith("|"))


def with_block(text: str, name: str, block: str) -> str:
    """A text with what stands between the marks of that name replaced."""
    begin, end = BEGIN.format(name), END.format(name)
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{block}\n{end}{after}"


def written() -> dict[Path, str]:
    """README and docs/results.md with the numbers of the reference run."""
    blocks = {
        ROOT / "README.md": ("outcome", outcome()),
        ROOT / "docs/results.md": ("results", tables()),
    }
    return {path: with_block(path.read_text(), *block) for path, block in blocks.items()}


def main(results: Path | None) -> None:
    """Keep a run if one is given, and write both texts."""
    if results is not None:
        keep(results)
    for path, text in written().items():
        write_atomically(path, text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
