"""The small backbone that comes with the project, and its model card."""

import importlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from coto.tasks.images import CYRILLIC, DIGITS, GREEK, HELD_OUT_LATIN
from coto.tasks.load import load_task
from tools import characters, pretrain
from tools.pretrain import CONFIG, FULL, Glyphs, ramp, rate
from tools.probe import GLYPHS, Probe, offline_tasks

CARD = (GLYPHS / "README.md").read_text(encoding="utf-8")
RECORD = json.loads((GLYPHS / "training.json").read_text())


@pytest.fixture(scope="module")
def probe() -> Probe:
    return Probe(GLYPHS)


def test_the_backbone_is_small_and_deep_enough(probe: Probe) -> None:
    network = probe.model.vit
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == RECORD["parameters"] <= 3_000_000
    assert len(network.blocks) >= 8
    assert (GLYPHS / "model.safetensors").stat().st_size <= 6 * 2**20
    assert json.loads((GLYPHS / "config.json").read_text()) == CONFIG


def test_features_are_finite_and_differ(probe: Probe) -> None:
    images = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    features = probe.features(probe.pictures.pixels.normalise(images * 255))
    assert features.shape == (4, CONFIG["arguments"]["embed_dim"])
    assert features.isfinite().all()
    assert (features.std(0) > 0).any()


def test_it_beats_raw_pixels_on_a_task(probe: Probe) -> None:
    backbone, raw = probe.accuracy(load_task("glyphs-digits"), 8, 0)
    assert backbone > raw + 0.1


def test_the_card_has_every_offline_task_and_the_backbone_wins_on_each() -> None:
    rows, prompted = {}, set()
    for line in CARD.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"[\d.]+", cells[-1]):
            rows[cells[0]] = (float(cells[3]), float(cells[4]))
        elif "glyphs-left" in cells:
            prompted = set(cells)
    assert set(rows) | prompted == {task.name for task in offline_tasks()}
    assert all(raw < backbone for raw, backbone in rows.values())


def test_the_card_tells_the_run_that_made_the_weights() -> None:
    assert f"{RECORD['parameters']:,}" in CARD
    assert f"{RECORD['steps']:,} steps" in CARD
    assert f"{RECORD['classes']:,} characters" in CARD
    for share in RECORD["accuracy"].values():
        assert f"{100 * share:.1f} %" in CARD


def test_the_commands_of_the_card_exist() -> None:
    modules = set(re.findall(r"python -m (tools[\w.]+)", CARD))
    assert modules == {"tools.pretrain", "tools.probe"}
    for module in modules:
        assert callable(importlib.import_module(module).main)
    makefile = Path(__file__).parents[2] / "Makefile"
    for target in re.findall(r"\bmake (\w+)", CARD):
        assert f"\n{target}:" in makefile.read_text()


def test_pretraining_has_not_seen_what_the_tasks_ask() -> None:
    classes = characters.alphabet()
    assert len(classes) == RECORD["classes"]
    assert not set(classes) & {*GREEK, *CYRILLIC, *DIGITS}
    scripts = {(0x370, 0x3FF), (0x400, 0x52F), (0x1F00, 0x1FFF), (0x30, 0x39)}
    assert not [c for c in classes if any(a <= ord(c) <= b for a, b in scripts)]
    fonts = {font for found in classes.values() for font in found}
    assert fonts <= set(characters.FONTS)
    assert not fonts & {*HELD_OUT_LATIN, *characters.HELD_OUT_FONTS}


def test_batches_are_of_their_classes_and_repeat() -> None:
    glyphs = Glyphs({"A": ("DejaVuSans", "STIXGeneral"), "B": (), "C": ("DejaVuSans",)})
    pictures, labels = glyphs.batch(64, FULL, torch.Generator().manual_seed(3))
    again, _ = glyphs.batch(64, FULL, torch.Generator().manual_seed(3))
    assert torch.equal(pictures, again)
    assert set(labels.tolist()) == {0, 2}  # nothing is drawn of a class without fonts
    assert pictures.shape == (64, 1, 32, 32)


def test_schedules_of_pretraining() -> None:
    assert rate(0, 1000) < rate(100, 1000) < rate(200, 1000)
    assert rate(999, 1000) < 0.01 * rate(200, 1000)
    assert ramp(0).rotate == pytest.approx(0.1 * FULL.rotate)
    assert ramp(0).contrast > ramp(1000).contrast > FULL.contrast
    assert ramp(10**6) == FULL


def test_a_killed_pretraining_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "alphabet", lambda: dict.fromkeys("ABCDEF", ("DejaVuSans",)))
    monkeypatch.setattr(pretrain, "BATCH", 8)
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(pretrain, "measure", lambda model, classes: {})
    straight = pretrain.train(tmp_path / "straight", 4, "cpu", math.inf)
    real = pretrain.draw

    def killed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    calls = 0
    monkeypatch.setattr(pretrain, "draw", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train(tmp_path / "killed", 4, "cpu", math.inf)
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["checkpoint.pt"]
    resumed = pretrain.train(tmp_path / "killed", 4, "cpu", math.inf)
    assert calls == 6  # two steps again, not four
    for name, weights in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weights, rtol=1e-5, atol=1e-6)
    files = {path.name for path in (tmp_path / "killed").iterdir()}
    assert files == {"config.json", "model.safetensors", "training.json"}
