"""Stage ``claims``: a verdict on each claim of the paper."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coto.report.claim import single_scores
from coto.report.claims_text import write_claims
from coto.report.items import load_items
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
    facts = facts_of(settings["axes"])
    build_claims(job.records(), out, settings["statistics"], facts, answers=True)


def build_claims(
    records: Records,
    out_dir: Path | str,
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    answers: bool = False,
) -> list[Path]:
    """Write ``claims.md``, ``claims.json`` and ``claims.csv``.

    Args:
        records: paths by stage.
        out_dir: their folder.
        settings: fields of :class:`Settings`.
        facts: what a reader must know of each suite, by its name.
        answers: whether the answers of every training run lie beside its record, for the test over
            items.

    Raises:
        CotoError: a malformed record, an unknown key, an arm without one chosen learning rate, or a
            run without its answers.
    """
    stats = Settings.of({**(settings or {}), "facts": facts or {}})
    frames = load_frames(records)
    if answers:
        frames["items"] = load_items(records["train"], single_scores(frames))
    return write_claims(evaluate(frames, stats), Path(out_dir), stats)
