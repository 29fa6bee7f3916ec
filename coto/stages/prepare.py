"""Stage ``prepare``: a task's rows, cut into train, validation and test."""

import logging
from pathlib import Path

from coto import record
from coto.stages.job import Job
from coto.tasks.load import load_task

log = logging.getLogger(__name__)


def run(job: Job, train: Path, validation: Path, test: Path, corpora: Path | None = None) -> None:
    """Write one parquet file per part.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.prepare`.
        train: rows to train on.
        validation: rows to choose learning rates on.
        test: rows that are reported.
        corpora: the source distribution that holds the offline corpora.
    """
    settings = job.settings
    frames = load_task(
        settings["task"],
        corpora=corpora,
        mirror=Path(settings["mirror"]).expanduser() if settings["mirror"] else None,
        limits=settings["rows"],
        cache=job.root / ".cache",
    )
    for split, path in {"train": train, "validation": validation, "test": test}.items():
        with record.atomic(path) as temporary:
            frames[split].to_parquet(temporary, index=False)
        log.info("%s: %d rows", split, len(frames[split]))
