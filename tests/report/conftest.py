from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from coto.findings import load_all
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.report.verdicts import evaluate
from tests.report.factory import make_records
from tests.report.factory_analysis import make_analyses
from tests.report.making import draw_figure

SUITES: dict[str, dict[str, Any]] = {
    "glue": {"adapters": ("lora",), "tasks": ("movies", "news"), "seeds": (0, 1)},
    "images": {"adapters": ("lora", "hira"), "tasks": ("digits",), "seeds": (0, 1, 2)},
    "questions": {"adapters": ("lora",), "tasks": ("snippets", "word-choice"), "seeds": (0,)},
}
KINDS = {"glue": "text", "images": "image", "questions": "language"}


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Three seeds of two adapters on four tasks: merging and pruning gain, single-task does not."""
    return make_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """As `records`, of two tasks: for checks of form, which cost time by the number of rows."""
    return make_records(tmp_path_factory.mktemp("few"), tasks=("acceptability", "movies"))


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return make_records(tmp_path_factory.mktemp("one_seed"), seeds=(0,), adapters=("lora",))


@pytest.fixture(scope="session")
def suites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """All stages of three suites: two tasks; one task, two adapters, three seeds; one seed."""
    found: dict[str, list[Path]] = defaultdict(list)
    for suite, axes in SUITES.items():
        root = tmp_path_factory.mktemp(suite)
        for make in (make_records, make_analyses):
            for stage, paths in make(root, suite=suite, **axes).items():
                found[stage] += paths
    return found


@pytest.fixture(scope="session")
def suite_frames(suites: dict[str, list[Path]]) -> dict[str, pd.DataFrame]:
    frames = load_frames(suites)
    load_all()
    results = evaluate(frames, Settings(resamples=100))
    return {**frames, "claims": pd.DataFrame(map(asdict, results))}


@pytest.fixture(scope="session")
def draw(suite_frames: dict[str, pd.DataFrame]) -> Callable[..., Figure]:
    """Draws a figure of the three suites, with other rows for some stages if they are given."""
    settings = Settings(facts={suite: {"kind": kind} for suite, kind in KINDS.items()})
    known: dict[str, Figure] = {}

    def of(name: str, **changed: pd.DataFrame) -> Figure:
        if changed:
            return draw_figure(name, {**suite_frames, **changed}, settings)
        if name not in known:
            known[name] = draw_figure(name, suite_frames, settings)
        return known[name]

    return of
