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
effect as large as the margin. Else, and always with one seed, *inconclusive*. The paper's numbers
come from other models and data; verdicts never compare with them.

The main tests of a family of claims, those of all suites together, share the chance of a false
alarm: their verdicts use *p (Holm)*, corrected by Holm's procedure. Sensitivities, and single
adapter kinds among several, are exploratory: their p is uncorrected, and so are their verdicts.
Intervals are never corrected.

The test over tasks and seeds asks what other seeds and tasks would give. The claim
single-task-items asks the other question, what these trained runs would give on other items of the
same tasks; its interval resamples the items of each task.

*d* is the mean difference over its standard deviation, with Hedges' correction; of few pairs, its
bootstrap interval is wide and skewed, and open where resamples have no spread. *Seeds to decide* is
a forecast for what is inconclusive: how many seeds, of the same tasks, would let the interval
exclude 0 or the margin if today's estimate were true. It takes the spread between tasks, between
seeds and of the rest from today's pairs, the normal approximation for the bootstrap, p at the first
step of Holm's procedure, and pairs of seeds that share a seed as independent.
"""


def write_claims(results: list[Result], out_dir: Path, settings: Settings) -> list[Path]:
    """Write ``claims.md``, ``claims.json`` and ``claims.csv``."""
    rows = [_plain(result) for result in results]
    table = pd.DataFrame(rows).assign(paper=["; ".join(r["paper"]) for r in rows])
    table = table.astype({"seeds_needed": "Int64"})  # whole numbers, though most have none
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
                "effect": _spread(r.effect, r.low, r.high, 1),
                "p": "" if r.p is None else f"{r.p:.4f}",
                "p (Holm)": "" if r.p_holm is None else f"{r.p_holm:.4f}",
                "pairs": f"{r.n_pairs} {r.pairs}".removesuffix(" pairs") if r.n_pairs else "",
                "verdict": f"**{r.verdict}**",
                "why": r.reason,
                "seeds to decide": _seeds(r),
            }
        )
    return markdown_table(pd.DataFrame(lines)) + "\n"


def _details(name: str, results: list[Result], suites: bool) -> str:
    first = results[0]
    text = f"### {name}\n\n- Paper: {first.statement}\n- Test here: {first.test}\n"
    rows = f"rows `{first.rows}`" if first.rows else "all rows"
    text += f"- Rests on: table `{first.table}`, {rows}. Family: {first.family}.\n"
    # What holds for a suite stands at its verdicts.
    if caution := first.caution.replace(SHARED_RUNS, "").strip():
        text += f"- Caution: {caution}\n"
    for r in results:
        adapter = "all adapters" if r.adapter == POOLED else r.adapter
        where = f"{r.suite}, {adapter}" if suites else adapter
        text += f"- {where}: {_outcome(r)}\n"
        text += "".join(f"  - Paper, {line}\n" for line in r.paper)
        if not r.paper and r.role == "main" and r.adapter != POOLED:
            text += "  - Paper: no number found for this adapter.\n"
    return text


def _outcome(r: Result) -> str:
    """Everything that one test found, in one sentence."""
    if r.effect is None or r.margin is None:
        return f"{r.verdict}, {r.reason}."
    repeats = "repeats" if r.unit == "% of time" else "seeds"
    by_run = r.adapter == POOLED and r.pairs == "pairs"
    what = "(task, adapter)" if by_run else "task"
    tasks = f"{r.n_tasks} {what}{'s' if r.n_tasks > 1 else ''}"
    found = [
        f"{_spread(r.effect, r.low, r.high, 1)} {r.unit}",
        *([f"d = {size}"] if (size := _spread(r.size, r.size_low, r.size_high, 2)) else []),
        f"p = {r.p:.4f} ({_correction(r)})",
        f"{r.n_pairs} {r.pairs} ({tasks}, {r.n_seeds} {repeats})",
        f"margin {r.margin:g}",
    ]
    needed = f" To decide: {_seeds(r)} {repeats}." if r.seeds_needed else ""
    if r.seeds_reason:
        needed = f" To decide: {r.seeds_reason}."
    return f"{', '.join(found)}: **{r.verdict}**, {r.reason}.{needed}"


def _correction(r: Result) -> str:
    if r.p_holm is None:
        return "exploratory, uncorrected"
    if r.tests == 1:
        return "the only test of its family"
    return f"{r.p_holm:.4f} after Holm's correction for {r.tests} in this family"


def _seeds(r: Result) -> str:
    return str(r.seeds_needed) if r.seeds_needed else r.seeds_reason


def _spread(mean: float | None, low: float | None, high: float | None, decimals: int) -> str:
    """A number with its interval; a bound that is not finite is left open."""
    if mean is None or low is None or high is None or not math.isfinite(mean):
        return ""
    if math.isnan(low) and math.isnan(high):
        return f"{mean:+z.{decimals}f}"
    bounds = [f"{x:+z.{decimals}f}" if math.isfinite(x) else "…" for x in (low, high)]
    return f"{mean:+z.{decimals}f} [{', '.join(bounds)}]"
