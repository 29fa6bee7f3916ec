"""Tables and claims as files: written whole or not at all, and the same bytes every time."""

import json
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
from coto.report.settings import LEAST_SEEDS, Settings, describe
from coto.report.verdicts import UNTESTED_VERDICT, Result

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

Effects are CoTo minus vanilla training of the same adapter, in percentage points, with a
{level:.0f} % Student interval over seeds: the tasks are fixed, and a seed's differences are
averaged over them. *p* tests the effect against 0, *p margin* against the margin, the smallest
effect of interest; both are two-sided t tests over seeds. *p flip* is a check that assumes no
distribution: a permutation test that flips the signs of whole seeds.

- **supported**: the interval lies on the claimed side of 0, and p < {alpha:.2g}.
- **not supported**: the effect is below the margin, with p margin < {alpha:.2g}, and the interval
  does not lie wholly on the claimed side of 0.
- **cannot be tested here**: the suite could not show it. Claims on pruning, merging, stability and
  balance need vanilla's adapters to be worth {sensitivity:g} points (score with all minus with
  none), claims on connectivity need the middle of vanilla's path between two seeds {barrier:g}
  points below its ends, with the interval above 0. *sensitivity* is that number.
- **inconclusive**: else, and always with fewer than {seeds} seeds.

One main test per sentence of the paper; those of a family, over all suites of the run, share the
chance of a false alarm: their p are corrected by Holm's procedure. Secondary claims, single
tasks, and single adapter kinds among several are exploratory: their p, and so their verdicts, are
not corrected. Intervals never are. The paper's numbers come from other models and data; verdicts
never compare with them. How it works, with error rates in simulation: docs/verdicts.md.

The test over seeds asks what other seeds would give on these tasks. The claim single-task-items
asks the other question, what these trained runs would give on other items of the same tasks.
*Seeds to decide* is a forecast for what is inconclusive, a range, see docs/verdicts.md.
"""


def write_claims(results: list[Result], out_dir: Path, settings: Settings) -> list[Path]:
    """Write ``claims.md``, ``claims.json`` and ``claims.csv``."""
    papers = paper_effects(results, settings)
    rows = [asdict(r) | {"paper_effects": papers.get((r.claim, r.suite), [])} for r in results]
    table = pd.DataFrame(rows).drop(columns="paper_effects")
    table = table.assign(paper=["; ".join(r["paper"]) for r in rows])
    # Whole numbers, though most have none.
    table = table.astype(dict.fromkeys(("seeds_low", "seeds_high"), "Int64"))
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
    margin = settings.margin
    intro = _INTRO.format(
        **{"level": 100 * settings.confidence, "alpha": 1 - settings.confidence},
        **{"sensitivity": settings.sensitivity * margin, "barrier": settings.barrier * margin},
        seeds=LEAST_SEEDS,
    )
    parts = [intro, "## Verdicts\n"]
    for suite, of_suite in by_suite.items():
        about = f"### Suite {suite}" if several else "", describe(suite, settings)
        parts += [f"{text}\n" for text in about if text]
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
    name = f"{r.claim} (secondary)" if r.role == "secondary" and not r.task else r.claim
    needed = "" if r.sensitivity_needed is None else f" (needs {r.sensitivity_needed:g})"
    known = _spread(r.sensitivity, r.sensitivity_low, r.sensitivity_high, 1) or "unknown"
    first = re.sub(r" \([^)]*\)", "", r.paper[0]) if r.paper else ""
    return {
        "claim": f"{name}, {r.task} alone" if r.task else name,
        "adapter": r.adapter,
        "effect": _spread(r.effect, r.low, r.high, 1),
        "margin": "" if r.margin is None else f"{r.margin:g}",
        "seeds": f"{r.n_seeds}" if r.effect is not None else "",
        "p": _p(r.p if r.p_holm is None else r.p_holm),
        "p margin": _p(r.p_margin if r.p_margin_holm is None else r.p_margin_holm),
        "p flip": _p(r.p_flip),
        "sensitivity": f"{known}{needed}" if needed else "",
        "verdict": f"**{r.verdict}**",
        "why": r.reason,
        "seeds to decide": _forecast(r),
        "paper": first,
    }


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if value >= 1e-4 else "< 0.0001"


def _forecast(r: Result) -> str:
    if r.seeds_low is None:
        return r.seeds_reason
    return f"{r.seeds_low} to {r.seeds_high}" if r.seeds_high else f"{r.seeds_low} or more"


def _details(results: list[Result], several: bool) -> str:
    """The section of a claim; `several` suites are named at each of its results."""
    first = results[0]
    text = f"### {first.claim}\n\n- Paper: {first.statement}\n- Test here: {first.test}\n"
    rows = f"rows `{first.rows}`" if first.rows else "all rows"
    text += f"- Rests on: table `{first.table}`, {rows}. Family: {first.family}.\n"
    if first.caution:
        text += f"- Caution: {first.caution}\n"
    for r in results:
        adapter = "all adapters" if r.adapter == POOLED else r.adapter
        where = ", ".join(filter(None, (r.suite if several else "", adapter, r.task)))
        text += f"- {where}: {_outcome(r)}\n"
        text += "".join(f"  - Paper, {line}\n" for line in r.paper)
        if not r.paper and r.role == "main" and r.adapter != POOLED and r.effect is not None:
            text += "  - Paper: no number found for this adapter.\n"
    return text


def _outcome(r: Result) -> str:
    """Everything that one test found, in one sentence."""
    if r.effect is None or r.margin is None:
        return f"{r.verdict}, {r.reason}."
    what = "(task, adapter)" if r.adapter == POOLED and r.replicates == "seeds" else "task"
    tasks = f"{r.n_tasks} {what}{'s' if r.n_tasks > 1 else ''}"
    counts = f"{r.n_seeds} {r.replicates}, {tasks}"
    if r.replicates == "items":
        counts = f"{r.n_pairs} items of {tasks}"
    corrected = "exploratory, uncorrected"
    if r.p_holm is not None:
        holm = f"{_p(r.p_holm)} and {_p(r.p_margin_holm)}"
        corrected = f"{holm} after Holm's correction for {r.tests} tests"
        corrected = corrected if r.tests > 1 else "the only test of its family"
    parts = (
        f"{_spread(r.effect, r.low, r.high, 1)} {r.unit}",
        counts,
        f"p {_p(r.p)}, against the margin of {r.margin:g} {_p(r.p_margin)} ({corrected})",
        "" if r.p_flip is None else f"p {_p(r.p_flip)} by flipped signs",
    )
    needed = _forecast(r)
    forecast = f" To decide: {needed}{' seeds' if r.seeds_low else ''}." if needed else ""
    return f"{'; '.join(filter(None, parts))}: **{r.verdict}**, {r.reason}.{forecast}"


def _spread(mean: float | None, low: float | None, high: float | None, decimals: int) -> str:
    """A number with its interval, where there is one."""
    if mean is None:
        return ""
    text = f"{mean:+z.{decimals}f}"
    if low is None or high is None:
        return text
    return f"{text} [{low:+z.{decimals}f}, {high:+z.{decimals}f}]"
