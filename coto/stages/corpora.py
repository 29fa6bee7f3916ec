"""Stage ``corpora``: the source distribution that holds the offline corpora."""

from pathlib import Path

from coto.stages.job import Job
from coto.tasks.vader import fetch_sdist


def run(job: Job, out: Path) -> None:
    """Fetch the archive into the folder of `out`; its hash is pinned, nothing of it is executed."""
    fetch_sdist(out.parent)
