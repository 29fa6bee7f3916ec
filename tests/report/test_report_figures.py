import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from coto.method.schedule import Schedule
from coto.report.drawing import LOOKS
from coto.report.figures import FIGURES
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.stages.figures import build_figures

STRATEGIES: dict[str, dict[str, Any]] = {
    name: {"kind": name, "schedule": "linear", "p0": 0.1, "p1": 1.0, "ramp": 0.75}
    for name in ("vanilla", "coto")
}
FAST = {"resamples": 100}


@pytest.fixture(scope="module")
def folder(few: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("figures")
    build_figures(few, out, STRATEGIES, {"dpi": 60}, FAST)
    return out


def test_every_figure_is_written_as_png_and_svg(folder: Path) -> None:
    expected = {f"{name}{suffix}" for name in FIGURES for suffix in (".png", ".svg")}
    assert {path.name for path in folder.iterdir()} == expected
    for path in folder.glob("*.png"):
        assert imread(path)[..., :3].std() > 0.02
    for path in folder.glob("*.svg"):
        assert ET.parse(path).getroot().tag.endswith("svg")


def test_drawing_twice_gives_the_same_bytes(
    few: dict[str, list[Path]], folder: Path, tmp_path: Path
) -> None:
    # Whatever the user's matplotlib settings are.
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True}):
        build_figures(few, tmp_path, STRATEGIES, {"dpi": 60}, FAST)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_schedule_shows_the_one_in_use_heavily() -> None:
    strategies = {"coto": STRATEGIES["coto"] | {"schedule": "sine", "p0": 0.2, "ramp": 0.5}}
    axes = FIGURES["schedule"]({}, strategies, Settings()).axes[0]
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    heavy = lines["sine (coto)"]
    assert heavy.get_linewidth() > 2 * lines["linear (not used here)"].get_linewidth()
    x = np.asarray(heavy.get_xdata()) * 10
    assert np.allclose(heavy.get_ydata(), Schedule("sine", 0.2, 1.0, 0.5)(x.round(), 1000))


def test_pruning_bars_have_the_heights_of_the_table(few: dict[str, list[Path]]) -> None:
    frames = load_frames(few)
    figure = FIGURES["pruning"](frames, STRATEGIES, Settings(resamples=100))
    rows = frames["prune"].query("adapter == 'lora' and keep == 'odd' and strategy == 'coto'")
    bars = figure.axes[0].containers
    heights = [bar.get_height() for container in bars for bar in getattr(container, "patches", [])]
    assert np.isclose(heights, 100 * rows["value"].mean()).any()


def test_missing_stages_give_a_picture_that_says_so(one_seed: dict[str, list[Path]]) -> None:
    frames = load_frames(
        {stage: paths for stage, paths in one_seed.items() if stage in ("train", "interpolate")}
    )
    for name, text in (
        ("interpolation", "needs two seeds"),
        ("pruning", "not measured"),
        ("training_time", "not measured"),
    ):
        figure = FIGURES[name](frames, STRATEGIES, Settings())
        assert text in figure.texts[0].get_text()


def test_looks_differ_by_more_than_colour() -> None:
    colours, markers, hatches = zip(*LOOKS, strict=True)
    assert len(set(colours)) == len(set(markers)) == len(set(hatches)) == len(LOOKS)
