"""The jobs of the report: records in, files of a table, a figure, a study or the claims out.

``stem`` is the path of the files without their suffix. Every job returns the paths that it wrote. A
malformed record, an arm without one chosen learning rate and an unknown name raise
:class:`CotoError`.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from coto.config.models import Figures, Tables
from coto.findings import FIGURES, TABLES, load_all, studies
from coto.findings.items import load_items
from coto.findings.jobs import CLAIMS
from coto.findings.outcome.lines import read_rows
from coto.report.drawing import Strategies, write_figure
from coto.report.quantities import single_scores
from coto.report.records import Frames, Records, load_frames
from coto.report.settings import Axes, Settings
from coto.report.verdicts import evaluate
from coto.report.writing import write_claims, write_table


def make_table(
    name: str, records: Records, stem: Path, style: Tables, settings: Settings
) -> list[Path]:
    """Write a table as ``stem.csv``, ``.md`` and ``.tex``."""
    return write_table(TABLES[name].load()(load_frames(records), settings, style), stem, style)


def make_figure(
    name: str,
    records: Records,
    stem: Path,
    strategies: Strategies,
    style: Figures,
    settings: Settings,
) -> list[Path]:
    """Write a figure as ``stem.png`` and ``.svg``."""
    draw, frames = FIGURES[name].load(), _with_claims(records)
    return write_figure(lambda: draw(frames, strategies, settings), stem, style)


def _with_claims(records: Records) -> Frames:
    """Frames of records, with what the claims job wrote, where that is among them."""
    frames = load_frames({name: paths for name, paths in records.items() if name != CLAIMS})
    rows = [row for path in records.get(CLAIMS, ()) for row in read_rows(Path(path))]
    return frames | ({CLAIMS: pd.DataFrame(rows)} if rows else {})


def make_claims(records: Records, folder: Path, settings: Settings, answers: bool) -> list[Path]:
    """Write ``claims.md``, ``claims.json`` and ``claims.csv``.

    ``answers`` says whether the answers of every training run lie beside its record, for the test
    over items.
    """
    load_all()
    frames = load_frames(records)
    if answers:
        frames["items"] = load_items(records["train"], single_scores(frames))
    return write_claims(evaluate(frames, settings), folder, settings)


def make_study(
    name: str,
    axes: Sequence[Axes],
    records: Records,
    folder: Path,
    tables: Tables,
    figures: Figures,
    settings: Settings,
) -> list[Path]:
    """Write a study's table and figure as ``{name}.csv``, ``.md``, ``.tex``, ``.png`` and ``.svg``.

    The settings hold the facts of the study, or of its suites, which have the same ones.
    """
    facts = settings.facts.get(name) or settings.facts.get(axes[0].suite)
    settings = settings.model_copy(update={"facts": {name: facts} if facts else {}})
    study = studies.compare_variants(name, axes, load_frames(records), settings)
    table = studies.study_table(study, settings, tables)
    return [
        *write_table(table, folder / name, tables),
        *write_figure(lambda: studies.draw_study(study), folder / name, figures),
    ]
