"""Records of every analysis, and the tables made of them, for the tests of single subjects."""

import tempfile
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from coto.findings import TABLES
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.report.writing import Table
from tests.report import making
from tests.report.factory import make_records
from tests.report.factory_analysis import make_analyses

Frames = dict[str, pd.DataFrame]
FAST = Settings(resamples=200)
TASKS = ("acceptability", "movies")


def build(name: str, frames: Frames, settings: Settings = FAST) -> Table:
    return making.build(name, frames, settings)


def has_note(table: Table, part: str) -> bool:
    return any(part in note for note in table.notes)


@cache
def _analyses() -> Frames:
    with tempfile.TemporaryDirectory() as root:
        return load_frames(make_analyses(Path(root), tasks=("movies", "news"), adapters=("lora",)))


@cache
def _frames() -> Frames:
    with tempfile.TemporaryDirectory() as root:
        plain = make_records(Path(root), tasks=TASKS, adapters=("lora",))
        more = make_analyses(Path(root), tasks=TASKS, adapters=("lora",))
        return load_frames({stage: plain.get(stage, []) + more.get(stage, []) for stage in plain})


@cache
def _tables() -> dict[str, Table]:
    return {name: build(name, _frames()) for name in TABLES}


@pytest.fixture(scope="session")
def analyses() -> Frames:
    """Rows of the analyses alone: two tasks, three seeds of vanilla and CoTo."""
    return _analyses()


@pytest.fixture(scope="session")
def frames() -> Frames:
    """Rows of all records of two tasks."""
    return _frames()


@pytest.fixture(scope="session")
def tables() -> dict[str, Table]:
    """All tables of `frames`."""
    return _tables()
