import os
from pathlib import Path

import pandas as pd
import pytest

from coto.tasks.load import load_task
from coto.tasks.registry import TASKS
from coto.tasks.text.vader import fetch_sdist

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def sdist() -> Path:
    """The corpora's archive, downloaded once per clone."""
    return fetch_sdist(REPOSITORY / ".cache")


@pytest.fixture(scope="session")
def offline_frames(sdist: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Task -> split -> all rows, of every offline task."""
    tasks = [task for task in TASKS.values() if task.kind == "text" and task.source == "vader"]
    return {task.name: load_task(task, corpora=sdist) for task in tasks}


@pytest.fixture(scope="session")
def real_mirror() -> Path:
    """A mirror with real GLUE data: $COTO_MIRROR, or the folder beside the repository."""
    mirror = Path(os.environ.get("COTO_MIRROR", REPOSITORY.parent / "shared" / "hub"))
    if not (mirror / "nyu-mll" / "glue").is_dir():
        pytest.skip(f"no mirror of the hub at {mirror}; set COTO_MIRROR to one with nyu-mll/glue")
    return mirror
