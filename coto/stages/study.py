"""Stage ``study``: a study's table and figure."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coto.report.drawing import write_figure
from coto.report.records import load_frames
from coto.report.settings import Settings, Style
from coto.report.study import make_study
from coto.report.study_figures import draw_study
from coto.report.study_table import study_table
from coto.report.writing import write_table
from coto.stages.job import Job

Records = Mapping[str, Iterable[Path | str]]


def run(job: Job, out: Path) -> None:
    """Read the records that the job's settings enumerate and write everything.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.report_study`.
        out: folder to write to.
    """
    settings = job.settings
    build_study(
        settings["study"],
        settings["axes"],
        job.records(),
        out,
        {**settings["tables"], **settings["figures"]},
        settings["statistics"],
    )


def build_study(
    name: str,
    axes: Sequence[Mapping[str, Any]],
    records: Records,
    out_dir: Path | str,
    style: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write ``{name}.csv``, ``.md``, ``.tex``, ``.png`` and ``.svg``.

    Args:
        name: of the study.
        axes: of the suites that it is made of (:meth:`coto.config.plan.Plan.axes`).
        records: paths by stage.
        out_dir: folder of the studies.
        style: fields of :class:`Style`.
        settings: fields of :class:`Settings`.

    Raises:
        CotoError: a malformed record, an unknown key, or an arm without one chosen learning rate.
    """
    frames, look = load_frames(records), Style.of(style)
    # The suites of a study have the same facts.
    facts = {name: axes[0].get("facts", {})}
    stats = Settings.of({**(settings or {}), "facts": facts})
    study = make_study(name, axes, frames, stats)
    stem = Path(out_dir) / name
    return [
        *write_table(study_table(study, stats, look), stem, look),
        *write_figure(lambda *_: draw_study(study), frames, {}, stats, stem, look),
    ]
