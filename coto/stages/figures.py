"""Stage ``figures``: all figures, as PNG and SVG."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coto.report.drawing import write_figure
from coto.report.figures import FIGURES
from coto.report.records import load_frames
from coto.report.settings import Settings, Style
from coto.report.suites import facts_of
from coto.stages.job import Job

Records = Mapping[str, Iterable[Path | str]]


def run(job: Job, out: Path) -> None:
    """Read the records that the job's settings enumerate and write everything.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.figures`.
        out: folder to write to.
    """
    settings = job.settings
    build_figures(
        job.records(),
        out,
        settings["strategies"],
        settings["style"],
        settings["statistics"],
        facts_of(settings["axes"]),
    )


def build_figures(
    records: Records,
    out_dir: Path | str,
    schedule_settings: Mapping[str, Mapping[str, Any]],
    style: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Write every figure as ``{name}.png`` and ``.svg``.

    Args:
        records: paths by stage.
        out_dir: folder of the figures.
        schedule_settings: settings of the strategies by name: ``kind``, ``schedule``, ``p0``,
            ``p1``, ``ramp``.
        style: fields of :class:`Style`.
        settings: fields of :class:`Settings`; the confidence level is used.
        facts: what a reader must know of each suite, by its name.

    Raises:
        CotoError: a malformed record or an unknown key.
    """
    frames, look = load_frames(records), Style.of(style)
    stats = Settings.of({**(settings or {}), "facts": facts or {}})
    written: list[Path] = []
    for name, draw in FIGURES.items():
        written += write_figure(draw, frames, schedule_settings, stats, Path(out_dir) / name, look)
    return written
