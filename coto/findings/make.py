"""The jobs of the report: records in, files of a table, a figure, a study or the claims out.

``stem`` is the path of the files without their suffix. Every job returns the paths that it wrote. A
malformed record, an arm without one chosen learning rate and an unknown name raise
:class:`CotoError`.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from coto.config.models import Figures, Tables
from coto.errors import CotoError
from coto.findings import FIGURES, TABLES, load_all
from coto.findings.items import load_items
from coto.findings.jobs import CLAIMS
from coto.findings.outcome.lines import read_rows
from coto.findings.rates import beyond, edge_note, in_config_form, report_lines
from coto.findings.studies import dependence, variants
from coto.findings.studies.quantities import form_of
from coto.report.drawing import Strategies, write_figure
from coto.report.quantities import single_scores
from coto.report.records import Frames, Records, load_frames
from coto.report.settings import Axes, Settings
from coto.report.verdicts import evaluate
from coto.report.writing import write_atomically, write_claims, write_table

log = logging.getLogger(__name__)


def make_table(
    name: str, records: Records, stem: Path, style: Tables, settings: Settings
) -> list[Path]:
    """Write a table as ``stem.csv``, ``.md`` and ``.tex``."""
    frames = load_frames(records)
    table = TABLES[name].load()(frames, settings, style)
    if name != "learning_rate" and (note := edge_note(frames, set(table.data.get("suite", ())))):
        table = replace(table, notes=(*table.notes, note))
    return write_table(table, stem, style)


def make_rates(records: Records, file: Path, edge: str) -> None:
    """Write the best rate of every arm in the form of a configuration.

    Raises:
        CotoError: if `edge` is ``error`` and a best rate is at an end of its grid; one line each.
    """
    train = load_frames(records)["train"]
    for line in report_lines(train):
        log.info("%s", line)
    if edge == "error" and (lines := beyond(train)):
        raise CotoError("\n".join(lines))
    write_atomically(file, in_config_form(train))


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
    frames = load_frames(records)
    if form_of(axes) == "lengths":
        lengths = dependence.compare_lengths(name, axes, frames, settings)
        table = dependence.dependence_table(lengths, settings, tables)
        draw = partial(dependence.draw_dependence, lengths)
    else:
        study = variants.compare_variants(name, axes, frames, settings)
        table = variants.study_table(study, settings, tables)
        draw = partial(variants.draw_study, study)
    return [
        *write_table(table, folder / name, tables),
        *write_figure(draw, folder / name, figures),
    ]
