"""Stage ``tables``: all tables, as CSV, Markdown and LaTeX."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coto.report.records import load_frames
from coto.report.settings import Settings, Style
from coto.report.suites import facts_of
from coto.report.tables import TABLES
from coto.report.writing import write_table
from coto.stages.job import Job

Records = Mapping[str, Iterable[Path | str]]


def run(job: Job, out: Path) -> None:
    """Read the records that the job's settings enumerate and write everything.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.tables`.
        out: folder to write to.
    """
    settings = job.settings
    facts = facts_of(settings["axes"])
    build_tables(job.records(), out, settings["style"], settings["statistics"], facts)


def build_tables(
    records: Records,
    out_dir: Path | str,
    style: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Write every table as ``{name}.csv``, ``.md`` and ``.tex``.

    Args:
        records: paths by stage.
        out_dir: folder of the tables.
        style: fields of :class:`Style`.
        settings: fields of :class:`Settings`; the confidence level and the resampling are used.
        facts: what a reader must know of each suite, by its name.

    Raises:
        CotoError: a malformed record, an unknown key, or an arm without one chosen learning rate.
    """
    frames, look = load_frames(records), Style.of(style)
    stats = Settings.of({**(settings or {}), "facts": facts or {}})
    written: list[Path] = []
    for name, build in TABLES.items():
        written += write_table(build(frames, stats, look), Path(out_dir) / name, look)
    return written
