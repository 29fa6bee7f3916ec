"""Stage ``claims``: a verdict on each claim of the paper."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coto.report.claims_text import write_claims
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.report.suites import facts_of
from coto.report.verdicts import evaluate
from coto.stages.job import Job

Records = Mapping[str, Iterable[Path | str]]


def run(job: Job, out: Path) -> None:
    """Read the records that the job's settings enumerate and write everything.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.claims`.
        out: folder to write to.
    """
    settings = job.settings
    build_claims(job.records(), out, settings["statistics"], facts_of(settings["axes"]))


def build_claims(
    records: Records,
    out_dir: Path | str,
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Write ``claims.md``, ``claims.json`` and ``claims.csv``.

    Args:
        records: paths by stage.
        out_dir: their folder.
        settings: fields of :class:`Settings`.
        facts: what a reader must know of each suite, by its name.

    Raises:
        CotoError: a malformed record, an unknown key, or an arm without one chosen learning rate.
    """
    stats = Settings.of({**(settings or {}), "facts": facts or {}})
    return write_claims(evaluate(load_frames(records), stats), Path(out_dir), stats)
