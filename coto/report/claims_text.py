"""Claims as Markdown for people, as JSON and CSV for programs."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from coto.report.claim import POOLED
from coto.report.settings import Settings
from coto.report.suites import describe
from coto.report.verdicts import SHARED_RUNS, UNTESTED_VERDICT, Result
from coto.report.writing import markdown_table, write_atomically

_INTRO = """# Claims of the paper, tested here

Effects are CoTo minus vanilla training of the same adapter, in percentage points, paired over
tasks and seeds, with a {level:.0f} % bootstrap interval that resamples tasks and seeds, and the p
value of a sign-flip permutation test over the pairs. *Supported*: the interval lies wholly on the
claimed side of 0 and p < 0.05. *Not supported*: it lies wholly on the other side, or excludes an
effect as large as the margin. Else, and always with one seed, *inconclusive*. There is no
correction for the number of claims. The paper's numbers come from other models and data; verdicts
never compare with them.
"""


def write_claims(results: list[Result], out_dir: Path, settings: Settings) -> list[Path]:
    """Write ``claims.md``, ``claims.json`` and ``claims.csv``."""
    rows = [_plain(result) for result in results]
    table = pd.DataFrame(rows).assign(paper=["; ".join(r["paper"]) for r in rows])
    content = {
        "claims.md": _markdown(results, settings),
        "claims.json": json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "claims.csv": table.to_csv(index=False, lineterminator="\n"),
    }
    for name, text in content.items():
        write_atomically(out_dir / name, text)
    return [out_dir / name for name in content]


def _plain(result: Result) -> dict[str, Any]:
    """A result as JSON: an interval that one pair does not give is null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(result).items()
    }


def _markdown(results: list[Result], settings: Settings) -> str:
    tested = [r for r in results if r.verdict != UNTESTED_VERDICT]
    untested = [r for r in results if r.verdict == UNTESTED_VERDICT]
    suites = len({r.suite for r in tested}) > 1
    parts = [
        _INTRO.format(level=100 * settings.confidence),
        "## Verdicts\n",
    ]
    for suite in dict.fromkeys(r.suite for r in tested):
        if suites:
            parts.append(f"### Suite {suite}\n")
        if text := describe(suite, settings):
            parts.append(f"{text}\n")
        if any(SHARED_RUNS in r.caution for r in tested if r.suite == suite):
            parts.append(f"{SHARED_RUNS}\n")
        parts.append(_summary(r for r in tested if r.suite == suite))
    parts.append("## Details\n")
    for name, group in groupby(tested, key=lambda r: r.claim):
        parts.append(_details(name, list(group), suites))
    parts.append("## Not tested here yet\n")
    parts += [
        f"- **{r.claim}**: {r.statement} Why not: {r.reason}."
        + "".join(f"\n  - Paper, {text}" for text in r.paper)
        for r in untested
    ]
    return "\n".join(parts) + "\n"


def _summary(results: Iterable[Result]) -> str:
    lines = []
    for r in results:
        lines.append(
            {
                "claim": f"{r.claim} (sensitivity)" if r.role == "sensitivity" else r.claim,
                "adapter": r.adapter,
                "effect": _effect(r),
                "p": "" if r.p is None else f"{r.p:.4f}",
                "pairs": f"{r.n_pairs}" if r.n_pairs else "",
                "verdict": f"**{r.verdict}**",
                "why": r.reason,
            }
        )
    return markdown_table(pd.DataFrame(lines)) + "\n"


def _details(name: str, results: list[Result], suites: bool) -> str:
    first = results[0]
    text = f"### {name}\n\n- Paper: {first.statement}\n- Test here: {first.test} "
    text += f"Table `{first.table}`.\n"
    # What holds for a suite stands at its verdicts.
    if caution := first.caution.replace(SHARED_RUNS, "").strip():
        text += f"- Caution: {caution}\n"
    for r in results:
        adapter = "all adapters" if r.adapter == POOLED else r.adapter
        where = f"{r.suite}, {adapter}" if suites else adapter
        if r.effect is None:
            text += f"- {where}: {r.verdict}, {r.reason}.\n"
        else:
            repeats = "repeats" if r.unit == "% of time" else "seeds"
            what = "task" if r.adapter != POOLED else "(task, adapter)"
            tasks = f"{r.n_tasks} {what}{'s' if r.n_tasks > 1 else ''}"
            text += (
                f"- {where}: {_effect(r)} {r.unit}, p = {r.p:.4f}, {r.n_pairs} pairs "
                f"({tasks}, {r.n_seeds} {repeats}), margin {r.margin:g}: **{r.verdict}**, "
                f"{r.reason}.\n"
            )
        text += "".join(f"  - Paper, {line}\n" for line in r.paper)
        if not r.paper and r.adapter != POOLED:
            text += "  - Paper: no number found for this adapter.\n"
    return text


def _effect(r: Result) -> str:
    if r.effect is None or r.low is None or r.high is None:
        return ""
    interval = f" [{r.low:+z.1f}, {r.high:+z.1f}]" if math.isfinite(r.low) else ""
    return f"{r.effect:+z.1f}{interval}"
