"""Tables and claims as files: written whole or not at all, and the same bytes every time."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd

from coto.config.models import Tables
from coto.record import atomic
from coto.report.claim import CLAIMS, POOLED, Claim
from coto.report.settings import Settings, describe
from coto.report.verdicts import SHARED_RUNS, UNTESTED_VERDICT, Result

_LATEX_SIGNS = {
    **{"−": "$-$", "±": r"$\pm$", "λ": r"$\lambda$", "†": r"$^\dagger$", "Δ": r"$\Delta$"},
    **{"→": r"$\rightarrow$", "≥": r"$\geq$", "≤": r"$\leq$", "—": "---", "–": "--"},
    **{"‖": r"$\|$", "·": r"$\cdot$", "×": r"$\times$", "φ": r"$\phi$", "Σ": r"$\Sigma$"},
    **{"₀": "$_0$", "⁻¹": "$^{-1}$"},
}


@dataclass(frozen=True)
class Table:
    """Tidy ``data`` at full precision for CSV, scores as fractions, and as text for people."""

    title: str
    data: pd.DataFrame
    display: pd.DataFrame
    notes: tuple[str, ...] = ()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write to a temporary name in the same folder, then rename."""
    with atomic(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_table(table: Table, stem: Path, style: Tables) -> list[Path]:
    """Write ``stem.csv``, ``stem.md`` and, unless the style says no, ``stem.tex``."""
    content = {".csv": _csv(table.data), ".md": markdown(table)}
    if style.latex:
        content[".tex"] = latex(table, stem.name)
    return _write({stem.with_suffix(suffix): text for suffix, text in content.items()})


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def _write(content: Mapping[Path, str]) -> list[Path]:
    for path, text in content.items():
        write_atomically(path, text)
    return list(content)


def markdown_table(frame: pd.DataFrame) -> str:
    """A pipe table; numbers keep the digits that they came with."""
    text = frame.to_markdown(index=False, disable_numparse=True)
    return re.sub(r" {2,}", " ", re.sub(r"-{3,}", "---", text)) if text else ""


def markdown(table: Table) -> str:
    """Title, table and notes in Markdown; a section per suite where the table has several."""
    display = table.display
    if "suite" in display:
        body = ""
        for suite, part in display.groupby("suite", sort=False):
            # Columns of other suites are empty here.
            part = part.drop(columns="suite").loc[:, lambda frame: (frame != "").any()]
            body += f"## {suite}\n\n{markdown_table(part)}\n\n"
        body += "## How to read it"
    else:
        body = markdown_table(display) if len(display) else "No measurements."
    notes = "".join(f"- {note}\n" for note in table.notes)
    return f"# {table.title}\n\n{body}\n\n{notes}"


def latex(table: Table, label: str) -> str:
    """A booktabs table with its notes below; needs the packages booktabs and graphicx."""
    styler = table.display.style.hide(axis="index").format(escape="latex")
    styler = styler.format_index(escape="latex", axis=1)
    body = styler.to_latex(hrules=True) if len(table.display) else "No measurements.\n"
    notes = "".join(f"\\item {_escape(note)}\n" for note in table.notes)
    text = (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_escape(table.title)}}}\n\\label{{tab:{label}}}\n"
        f"\\resizebox{{\\linewidth}}{{!}}{{%\n{body}}}\n"
        + (f"\\begin{{itemize}}\\footnotesize\n{notes}\\end{{itemize}}\n" if notes else "")
        + "\\end{table}\n"
    )
    for sign, command in _LATEX_SIGNS.items():
        text = text.replace(sign, command)
    return text


def _escape(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)


_INTRO = """# Claims of the paper, tested here

![Every main claim: effect, interval, margin and verdict](figures/forest.png)

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
    papers = paper_effects(results, settings)
    rows = [asdict(r) | {"paper_effects": papers.get((r.claim, r.suite), [])} for r in results]
    for row in rows:
        # An interval that one pair does not give is null.
        row |= {k: None for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)}
    table = pd.DataFrame(rows).drop(columns="paper_effects")
    table = table.assign(paper=["; ".join(r["paper"]) for r in rows])
    table = table.astype({"seeds_needed": "Int64"})  # whole numbers, though most have none
    text = json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    content = {"md": _markdown(results, settings), "json": text, "csv": _csv(table)}
    return _write({out_dir / f"claims.{suffix}": text for suffix, text in content.items()})


def paper_effects(
    results: Iterable[Result], settings: Settings, claims: Mapping[str, Claim] = CLAIMS
) -> dict[tuple[str, str], list[float]]:
    """By claim and suite, what CoTo adds in the paper with the adapter kinds of these results.

    In the claim's unit, of suites of the same kind of tasks; without what the paper gives no
    baseline for.
    """
    found: dict[tuple[str, str], dict[float, None]] = defaultdict(dict)
    for r in results:
        # What is said of all kinds together is listed under that name.
        for of in dict.fromkeys((r.adapter, POOLED)) if r.suite else ():
            for value in claims[r.claim].reported.get(of, ()):
                alike = value.kind in ("", settings.kind(r.suite) or value.kind)
                if alike and (effect := value.effect) is not None:
                    found[r.claim, r.suite][round(effect, 6)] = None
    return {place: list(effects) for place, effects in found.items()}


def _markdown(results: list[Result], settings: Settings) -> str:
    tested = [r for r in results if r.verdict != UNTESTED_VERDICT]
    by_suite: dict[str, list[Result]] = defaultdict(list)
    for r in tested:
        by_suite[r.suite].append(r)
    several = len(by_suite) > 1
    parts = [_INTRO.format(level=100 * settings.confidence), "## Verdicts\n"]
    for suite, of_suite in by_suite.items():
        shared = any(SHARED_RUNS in r.caution for r in of_suite)
        about = f"### Suite {suite}" if several else "", describe(suite, settings)
        parts += [f"{text}\n" for text in (*about, SHARED_RUNS if shared else "") if text]
        parts.append(markdown_table(pd.DataFrame(map(_line, of_suite))) + "\n")
    parts.append("## Details\n")
    parts += [_details(list(group), several) for _, group in groupby(tested, lambda r: r.claim)]
    parts.append("## Not tested here yet\n")
    parts += [
        f"- **{r.claim}**: {r.statement} Why not: {r.reason}."
        + "".join(f"\n  - Paper, {text}" for text in r.paper)
        for r in results
        if r.verdict == UNTESTED_VERDICT
    ]
    return "\n".join(parts) + "\n"


def _line(r: Result) -> dict[str, str]:
    return {
        "claim": f"{r.claim} (sensitivity)" if r.role == "sensitivity" else r.claim,
        "adapter": r.adapter,
        "effect": _spread(r.effect, r.low, r.high, 1),
        "p": "" if r.p is None else f"{r.p:.4f}",
        "p (Holm)": "" if r.p_holm is None else f"{r.p_holm:.4f}",
        "pairs": f"{r.n_pairs} {r.pairs}".removesuffix(" pairs") if r.n_pairs else "",
        "verdict": f"**{r.verdict}**",
        "why": r.reason,
        "seeds to decide": str(r.seeds_needed or r.seeds_reason),
    }


def _details(results: list[Result], several: bool) -> str:
    """The section of a claim; `several` suites are named at each of its results."""
    first = results[0]
    text = f"### {first.claim}\n\n- Paper: {first.statement}\n- Test here: {first.test}\n"
    rows = f"rows `{first.rows}`" if first.rows else "all rows"
    text += f"- Rests on: table `{first.table}`, {rows}. Family: {first.family}.\n"
    # What holds for a suite stands at its verdicts.
    if caution := first.caution.replace(SHARED_RUNS, "").strip():
        text += f"- Caution: {caution}\n"
    for r in results:
        adapter = "all adapters" if r.adapter == POOLED else r.adapter
        text += f"- {r.suite + ', ' if several else ''}{adapter}: {_outcome(r)}\n"
        text += "".join(f"  - Paper, {line}\n" for line in r.paper)
        if not r.paper and r.role == "main" and r.adapter != POOLED:
            text += "  - Paper: no number found for this adapter.\n"
    return text


def _outcome(r: Result) -> str:
    """Everything that one test found, in one sentence."""
    if r.effect is None or r.margin is None:
        return f"{r.verdict}, {r.reason}."
    repeats = "repeats" if r.unit == "% of time" else "seeds"
    what = "(task, adapter)" if r.adapter == POOLED and r.pairs == "pairs" else "task"
    tasks = f"{r.n_tasks} {what}{'s' if r.n_tasks > 1 else ''}"
    size = _spread(r.size, r.size_low, r.size_high, 2)
    correction = f"{r.p_holm or 0:.4f} after Holm's correction for {r.tests} in this family"
    if r.p_holm is None:
        correction = "exploratory, uncorrected"
    elif r.tests == 1:
        correction = "the only test of its family"
    parts = (
        f"{_spread(r.effect, r.low, r.high, 1)} {r.unit}",
        f"d = {size}" if size else "",
        f"p = {r.p:.4f} ({correction})",
        f"{r.n_pairs} {r.pairs} ({tasks}, {r.n_seeds} {repeats})",
        f"margin {r.margin:g}",
    )
    needed = r.seeds_reason or (r.seeds_needed and f"{r.seeds_needed} {repeats}")
    forecast = f" To decide: {needed}." if needed else ""
    return f"{', '.join(filter(None, parts))}: **{r.verdict}**, {r.reason}.{forecast}"


def _spread(mean: float | None, low: float | None, high: float | None, decimals: int) -> str:
    """A number with its interval; a bound that is not finite is left open."""
    if mean is None or low is None or high is None or not math.isfinite(mean):
        return ""
    if math.isnan(low) and math.isnan(high):
        return f"{mean:+z.{decimals}f}"
    bounds = [f"{x:+z.{decimals}f}" if math.isfinite(x) else "…" for x in (low, high)]
    return f"{mean:+z.{decimals}f} [{', '.join(bounds)}]"
