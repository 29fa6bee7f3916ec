"""The effect of CoTo by learning rate and length: from made records whose effects are known."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coto.config.models import Figures, Tables
from coto.findings.make import make_study
from coto.findings.studies.dependence import SHOWN, compare_lengths, draw_dependence
from coto.report.records import load_frames
from coto.report.settings import Axes, Settings
from coto.report.tables import FEW
from tests.report.factory import make_records

Records = dict[str, list[Path]]
RATES, LENGTHS = (1e-3, 1e-2, 1e-1), (0.25, 1.0)
TASKS = ("digits", "left")
# In the made records a way of pruning costs 13 points, and half-way between two seeds 18.
SINGLE = {0.25: -0.04, 1.0: 0.01}
PRUNED = {1e-3: 0.0, 1e-2: 0.06, 1e-1: 0.02}


def home_of(length: float) -> str:
    return "images" if length == 1 else f"images-{length:g}-of-steps"


def axes_of(lr: float, length: float) -> Axes:
    grids = dict.fromkeys(("lora-vanilla", "lora-coto"), (f"{lr:g}",))
    name = f"dependence-{lr:g}-{length:g}"
    return Axes(suite=name, home=home_of(length), share=length, grids=grids)


AXES = [axes_of(lr, length) for lr in RATES for length in LENGTHS]


def moved(path: Path, suite: str) -> Path:
    """A record of a run, as it is where the runs of several of the study's suites lie."""
    record = json.loads(path.read_text())
    for row in record["rows"]:
        row["suite"] = suite
    path.write_text(json.dumps(record))
    return path


def made(root: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> Records:
    """The records of a study; the middle rate does best on the validation part."""
    found: Records = defaultdict(list)
    for axes in AXES:
        (lr,) = map(float, axes.grids["lora-coto"])
        assert axes.share is not None
        records = make_records(
            root / axes.suite,
            suite=axes.suite,
            tasks=TASKS,
            adapters=("lora",),
            seeds=seeds,
            lrs=(lr,),
            single_gain=SINGLE[axes.share],
            prune_gain=PRUNED[lr],
            noise=0.002,
            level=0.7 if lr == 1e-2 else 0.6,
        )
        for stage, paths in records.items():
            runs = stage in ("train", "none")
            found[stage] += [moved(path, axes.home) if runs else path for path in paths]
    return found


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return made(tmp_path_factory.mktemp("dependence"))


@pytest.fixture(scope="module")
def folder(records: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(records, tmp_path_factory.mktemp("study"))


def written(records: Records, folder: Path) -> Path:
    facts = {"backbone": "glyphs", "kind": "image"}
    settings = Settings(resamples=100, facts={AXES[0].suite: facts})
    make_study("dependence", AXES, records, folder, Tables(), Figures(dpi=50), settings)
    return folder


def by_hand(records: Records, stage: str, axes: Axes, **where: Any) -> float:
    """CoTo minus vanilla from the JSON files, in points; every task and seed has as many rows."""
    (lr,) = map(float, axes.grids["lora-coto"])
    suite = axes.home if stage == "train" else axes.suite
    values = defaultdict(list)
    for path in records[stage]:
        for row in json.loads(path.read_text())["rows"]:
            here = row["suite"] == suite and row.get("lr", lr) == lr and row["headline"]
            if here and all(row[key] == value for key, value in where.items()):
                values[row["strategy"]].append(row["value"])
    return 100 * float(np.mean(values["coto"]) - np.mean(values["vanilla"]))


def test_the_effects_are_those_of_the_records(records: Records, folder: Path) -> None:
    table = pd.read_csv(folder / "dependence.csv")
    lines = table[(table["task"] == "Average") & (table["strategy"] == "coto")]
    lines = lines.set_index(["length", "lr", "quantity"])["difference"]
    assert len(lines) == len(AXES) * len(SHOWN)
    for axes in AXES:
        (lr,) = map(float, axes.grids["lora-coto"])
        place = axes.share, lr
        single = by_hand(records, "train", axes, split="test")
        assert 100 * lines[(*place, "generalization")] == pytest.approx(single)
        assert single == pytest.approx(100 * SINGLE[axes.share], abs=0.5)
        half = by_hand(records, "interpolate", axes, operator="fusion", weight=0.5)
        assert 100 * lines[(*place, "merging 1:1")] == pytest.approx(half)
        assert 100 * lines[(*place, "pruning")] == pytest.approx(100 * PRUNED[lr], abs=0.5)


def test_a_line_has_both_arms_the_effect_and_what_is_best_on_validation(folder: Path) -> None:
    text = (folder / "dependence.md").read_text()
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    headings = [part for one in SHOWN.values() for part in (one, f"{one}: effect")]
    columns = ["adapter", "steps", "learning rate", *headings, "best on validation"]
    assert header == "| " + " | ".join(columns) + " |"
    assert [row.split(" | ")[1:3] for row in rows] == [
        [steps, rate] for steps in ("25 %", "100 %") for rate in ("0.001", "0.01", "0.1")
    ]
    best = [row.removesuffix("|").split(" | ")[-1].strip() for row in rows]
    assert best == ["", "vanilla, coto", ""] * 2
    assert " → " in rows[0]
    assert " [" in rows[0]
    assert "the grid" not in text  # the best rate lies inside it
    assert FEW not in text
    assert (folder / "dependence.tex").read_text().isascii()


def test_the_figure_has_a_line_per_length_over_the_rates(records: Records) -> None:
    study = compare_lengths("dependence", AXES, load_frames(records), Settings(resamples=100))
    panels = draw_dependence(study).axes
    assert [panel.get_title(loc="left") for panel in panels] == [
        f"lora: {heading}" for heading in SHOWN.values()
    ]
    table = study.effects.set_index(["quantity", "length", "lr"])
    for panel, quantity in zip(panels, SHOWN, strict=True):
        assert panel.get_xscale() == "log"
        assert any(set(line.get_ydata()) == {0} for line in panel.lines)  # the zero line
        assert [box.get_label() for box in panel.containers] == [
            "25 % of the steps",
            "100 % of the steps",
        ]
        for length, box in zip(LENGTHS, panel.containers, strict=True):
            points, _, (bars,) = box.lines
            lines = table.loc[quantity, length]
            assert list(points.get_ydata()) == pytest.approx(list(100 * lines["difference"]))
            ends = np.array([segment[:, 1] for segment in bars.get_segments()])
            expected = 100 * lines[["difference_low", "difference_high"]].to_numpy()
            np.testing.assert_allclose(ends, expected)
            # Beside each other, and near their rates.
            np.testing.assert_allclose(
                np.log10(np.asarray(points.get_xdata(), float)), [-3, -2, -1], atol=0.1
            )
            low, high = panel.get_ylim()
            assert low < ends.min()
            assert ends.max() < high
    assert panels[0].containers[0].lines[0].get_xdata()[0] < 1e-3
    assert panels[0].containers[1].lines[0].get_xdata()[0] > 1e-3


def test_two_seeds_have_no_bars_and_one_has_no_merges(tmp_path: Path) -> None:
    two = made(tmp_path / "two", seeds=(0, 1))
    study = compare_lengths("dependence", AXES, load_frames(two), Settings(resamples=100))
    for box in draw_dependence(study).axes[0].containers:
        (bars,) = box.lines[2]
        assert not any(len(segment) for segment in bars.get_segments())
    assert FEW in (written(two, tmp_path / "out") / "dependence.md").read_text()
    one = made(tmp_path / "one", seeds=(0,))
    study = compare_lengths("dependence", AXES, load_frames(one), Settings(resamples=100))
    merged = draw_dependence(study).axes[2]
    assert [text.get_text() for text in merged.texts] == ["not measured"]


def test_a_best_rate_at_the_end_of_the_grid_is_said(records: Records, tmp_path: Path) -> None:
    axes = [one for one in AXES if one.grids["lora-coto"] != ("0.1",)]
    names = {one.suite for one in axes}
    kept = {
        stage: [path for path in paths if any(name in path.parts for name in names)]
        for stage, paths in records.items()
    }
    make_study("dependence", axes, kept, tmp_path, Tables(), Figures(dpi=50), Settings())
    text = (tmp_path / "dependence.md").read_text()
    assert "The best rate is the upper end of the grid, which may go on beyond it:" in text
    assert "lora-vanilla at 25 % of the steps (0.01)" in text
