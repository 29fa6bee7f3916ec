"""Files of the report: written whole or not at all, and the same bytes every time."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from coto.record import atomic
from coto.report.settings import Style

_LATEX_SIGNS = {
    "−": "$-$",
    "±": r"$\pm$",
    "λ": r"$\lambda$",
    "†": r"$^\dagger$",
    "Δ": r"$\Delta$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "—": "---",
    "–": "--",
    "‖": r"$\|$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "φ": r"$\phi$",
    "Σ": r"$\Sigma$",
    "₀": "$_0$",
    "⁻¹": "$^{-1}$",
}


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        title: one line.
        data: tidy numbers at full precision, for CSV; scores are fractions.
        display: the same as text, for people.
        notes: sentences below the table.
    """

    title: str
    data: pd.DataFrame
    display: pd.DataFrame
    notes: tuple[str, ...] = ()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write to a temporary name in the same folder, then rename."""
    with atomic(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_table(table: Table, stem: Path, style: Style) -> list[Path]:
    """Write ``stem.csv``, ``stem.md`` and, unless the style says no, ``stem.tex``."""
    content = {".csv": table.data.to_csv(index=False, lineterminator="\n"), ".md": markdown(table)}
    if style.latex:
        content[".tex"] = latex(table, stem.name)
    for suffix, text in content.items():
        write_atomically(stem.with_suffix(suffix), text)
    return [stem.with_suffix(suffix) for suffix in content]


def markdown_table(frame: pd.DataFrame) -> str:
    """A pipe table; numbers keep the digits that they came with."""
    text = frame.to_markdown(index=False, disable_numparse=True)
    return re.sub(r" {2,}", " ", re.sub(r"-{3,}", "---", text)) if text else ""


def markdown(table: Table) -> str:
    """Title, table and notes in Markdown; a section per suite where the table has several."""
    shown = table.display
    if "suite" in shown:
        body = "\n\n".join(
            f"## {suite}\n\n{markdown_table(_filled(part.drop(columns='suite')))}"
            for suite, part in shown.groupby("suite", sort=False)
        )
        body += "\n\n## How to read it"
    else:
        body = markdown_table(shown) if len(shown) else "No measurements."
    notes = "".join(f"- {note}\n" for note in table.notes)
    return f"# {table.title}\n\n{body}\n\n{notes}"


def _filled(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the columns that are empty in every line, such as those of other suites."""
    return frame.loc[:, (frame != "").any()]


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
