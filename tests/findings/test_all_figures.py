import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from coto.config.models import Strategy
from coto.findings import FIGURES
from coto.method.schedule import Schedule
from coto.report.drawing import LOOKS
from coto.report.panels import hide_empty
from coto.report.records import load_frames
from coto.report.settings import Settings
from tests.report.factory import make_records
from tests.report.factory_analysis import make_analyses
from tests.report.figure_reading import dots, texts
from tests.report.making import draw_figure, make_figures

STRATEGIES = {name: Strategy(kind=name) for name in ("vanilla", "coto")}
MEASURED = tuple(sorted(FIGURES.keys() - {"masks", "schedule"}))
Draw = Callable[..., Figure]


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    root = tmp_path_factory.mktemp("little")
    axes: dict[str, Any] = {"tasks": ("movies",), "adapters": ("lora",), "seeds": (0, 1)}
    return {
        stage: [*made.get(stage, []), *more.get(stage, [])]
        for made, more in [(make_records(root, **axes), make_analyses(root, **axes))]
        for stage in made
    }


@pytest.fixture(scope="module")
def folder(little: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("figures")
    make_figures(little, out, STRATEGIES, 40)
    return out


def test_every_figure_is_written_as_png_and_svg(folder: Path) -> None:
    expected = {f"{name}{suffix}" for name in FIGURES for suffix in (".png", ".svg")}
    assert {path.name for path in folder.iterdir()} == expected
    for path in folder.glob("*.png"):
        assert imread(path)[..., :3].std() > 0.02
    for path in folder.glob("*.svg"):
        assert ET.parse(path).getroot().tag.endswith("svg")


def test_drawing_twice_gives_the_same_bytes(
    little: dict[str, list[Path]], folder: Path, tmp_path: Path
) -> None:
    # Whatever the user's matplotlib settings are.
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True}):
        make_figures(little, tmp_path, STRATEGIES, 40)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_schedule_shows_the_one_in_use_heavily() -> None:
    used = Strategy(kind="coto", schedule="sine", p0=0.2, ramp=0.5)
    axes = draw_figure("schedule", {}, Settings(), coto=used).axes[0]
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    heavy = lines["sine (coto)"]
    assert heavy.get_linewidth() > 2 * lines["linear (not used here)"].get_linewidth()
    x = np.asarray(heavy.get_xdata()) * 10
    assert np.allclose(heavy.get_ydata(), Schedule("sine", 0.2, 1.0, 0.5)(x.round(), 1000))


def test_pruning_marks_have_the_heights_of_the_table(few: dict[str, list[Path]]) -> None:
    frames = load_frames(few)
    figure = draw_figure("pruning", frames, Settings())
    rows = frames["prune"].query("adapter == 'lora' and keep == 'odd' and strategy == 'coto'")
    assert np.isclose(list(dots(figure.axes[0], "coto").values()), 100 * rows["value"].mean()).any()


@pytest.mark.parametrize("name", MEASURED)
def test_without_its_stage_a_figure_says_so(name: str) -> None:
    figure = draw_figure(name, load_frames({}), Settings())
    (text,) = figure.texts
    assert " not " in text.get_text()
    assert not figure.axes


def test_one_seed_has_no_path_between_seeds(one_seed: dict[str, list[Path]]) -> None:
    (text,) = draw_figure("interpolation", load_frames(one_seed), Settings()).texts
    assert "needs two seeds" in text.get_text()


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("merging", "paper: DeBERTa-v3-base, six GLUE tasks, lr 5e-4 (exact)"),
        ("merging", "paper: LLaMA-2-7B, nine tasks (second-hand)"),
        ("alignment", "paper: CLIP ViT-B/16, image encoder (by eye)"),
        ("pruning", "average over 11 image sets (digitised"),
        ("unstructured_pruning", "paper: CoTo +10 points at 50 % (second-hand, rounded)"),
        ("shapley", "(digitised, saturated: lower bounds)"),
        ("geometry", "paper: cosine (CLIP, exact)"),
        ("training_time", "paper: 7.2 % less (second-hand)"),
    ],
)
def test_numbers_of_the_paper_say_what_they_are(draw: Draw, name: str, label: str) -> None:
    assert label in texts(draw(name))


@pytest.mark.parametrize("name", MEASURED)
def test_text_is_legible(draw: Draw, name: str) -> None:
    sizes = [text.get_fontsize() for text in draw(name).findobj(Text) if text.get_text()]
    assert min(sizes) >= 8


@pytest.mark.parametrize("name", [name for name in MEASURED if name != "forest"])
def test_arms_that_one_suite_lacks_leave_no_hole(
    draw: Draw, suite_frames: dict[str, pd.DataFrame], name: str
) -> None:
    fewer = {
        stage: rows[(rows["suite"] != "images") | (rows["strategy"] != "coto")]
        for stage, rows in suite_frames.items()
        if "strategy" in rows
    }
    figure = draw(name, **fewer)
    figure.draw_without_rendering()
    assert figure.axes


def test_looks_differ_by_more_than_colour() -> None:
    colours, markers, hatches = zip(*LOOKS, strict=True)
    assert len(set(colours)) == len(set(markers)) == len(set(hatches)) == len(LOOKS)


def test_what_hidden_panels_told_stands_at_the_others() -> None:
    grid = Figure().subplots(2, 2, sharex=True, sharey=True)
    for axes in grid.flat:
        axes.set(xlabel="x", ylabel="y")
    grid[0, 1].set_title("second")
    for axes in (grid[0, 0], grid[1, 1]):
        axes.plot([0, 1])
    hide_empty(grid)
    assert [axes.get_visible() for axes in grid.flat] == [True, False, False, True]
    assert grid[1, 1].get_title() == "second"
    for axes in (grid[0, 0], grid[1, 1]):
        assert axes.get_xlabel() == "x"
        assert axes.get_ylabel() == "y"
        assert all(tick.label1.get_visible() for tick in axes.xaxis.get_major_ticks())
