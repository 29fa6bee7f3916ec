"""Image tasks about more than the character: their labels are read off the pictures again."""

import hashlib
import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import grey_dilation, grey_erosion

from coto.errors import CotoError
from coto.tasks.images import DIGITS, LATIN, TURNED, UPRIGHT, ImageTask, composed, made
from coto.tasks.images.made import plate
from coto.tasks.load import load_prototypes, load_task
from coto.tasks.registry import TASKS
from coto.tasks.splits import SPLITS

NAMES = [name for name, task in TASKS.items() if ".composed:" in task.code]
MADE = [t.name for t in TASKS.values() if isinstance(t, ImageTask) and t.source == "made"]


def grey(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content))).astype(float)


def digest(*frames: pd.DataFrame) -> str:
    content = hashlib.sha256()
    for frame in frames:
        for image, label in zip(frame["image"], frame["label"], strict=True):
            content.update(grey(image).tobytes() + bytes([label]))
    return content.hexdigest()


# --- reading a picture without distortion --------------------------------------------------------


class Reader:
    """Tells what is in an undistorted picture by the nearest of all that could be there.

    Candidates are a font's character, turned by quarters, thinner, as it is, or thicker; `width`
    is the share of the picture's that it has.
    """

    def __init__(self, task: ImageTask, width: int = 1, turned: bool = False) -> None:
        self.what: list[tuple[str, str, int]] = []
        looks = []
        for font in task.fonts:
            for character in task.characters:
                for quarters in range(4 if turned else 1):
                    # Up is the first row: numpy turns anticlockwise, too.
                    ink = np.rot90(plate(font, character).astype(float), quarters)
                    ink = ink.reshape(64, 64 // width, width).mean(axis=2)
                    for look in (grey_erosion(ink, (3, 3)), ink, grey_dilation(ink, (3, 3))):
                        half = look.reshape(32, 2, 32 // width, 2).mean(axis=(1, 3))
                        looks.append(255 - half.ravel())
                        self.what.append((font, character, quarters))
        self._looks = np.array(looks)

    def read(self, picture: np.ndarray) -> tuple[str, str, int]:
        return self.what[int(np.abs(self._looks - picture.ravel()).sum(axis=1).argmin())]


@pytest.fixture
def undistorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composed, "distortion_of", lambda task: made.CLEAN)


def test_the_left_letter_is_the_class(undistorted: None) -> None:
    task = TASKS["glyphs-left"]
    test, reader = load_task(task)["test"], Reader(task, width=2)
    assert test.attrs["class_names"] == list("ABCDEFGHIJ")
    others = set()
    for image, label, _ in test[:150].itertuples(index=False):
        picture = grey(image)
        assert reader.read(picture[:, :16])[1] == "ABCDEFGHIJ"[label]
        others.add(reader.read(picture[:, 16:])[1])
    assert len(others) > 20  # any letter


@pytest.mark.parametrize("name", ["glyphs-same", "glyphs-smaller"])
def test_pairs_of_digits_have_the_label_that_is_true(undistorted: None, name: str) -> None:
    task = TASKS[name]
    test, reader = load_task(task)["test"], Reader(task, width=2)
    seen = set()
    for image, label, _ in test[:150].itertuples(index=False):
        (font, left, _), (other, right, _) = (
            reader.read(half) for half in np.split(grey(image), 2, axis=1)
        )
        seen.add((left, right))
        true = int(left == right) if name == "glyphs-same" else int(right < left)
        assert label == true, (left, right, font, other)
        assert name == "glyphs-same" or left != right
    assert {digit for pair in seen for digit in pair} == set(DIGITS)
    words = {"glyphs-same": ["different", "same"], "glyphs-smaller": ["left", "right"]}
    assert test.attrs["class_names"] == words[name]


def test_a_letter_is_turned_by_as_many_quarters_as_its_label(undistorted: None) -> None:
    task = TASKS["glyphs-turns"]
    test, reader = load_task(task)["test"], Reader(task, turned=True)
    found = [reader.read(grey(image)) for image in test["image"][:150]]
    assert [quarters for *_, quarters in found] == list(test["label"][:150])
    assert {character for _, character, _ in found} == set(TURNED)


def test_no_turned_character_looks_like_one_with_another_turn() -> None:
    """Else two classes would have one picture, as V and Λ would."""
    turns = np.tile(np.arange(4), len(TURNED))
    for font in UPRIGHT:
        shapes = [np.rot90(plate(font, c).astype(float), k) for c in TURNED for k in range(4)]
        alike = np.corrcoef([shape.ravel() for shape in shapes])
        assert alike[turns[:, None] != turns].max() < 0.85, font


def test_the_font_is_the_class(undistorted: None) -> None:
    task = TASKS["glyphs-fonts"]
    test, reader = load_task(task)["test"], Reader(task)
    found = [reader.read(grey(image)) for image in test["image"][:200]]
    right = [
        task.fonts[label] == font
        for label, (font, *_) in zip(test["label"][:200], found, strict=True)
    ]
    # A bar is one in all fonts: the thinner bold I is the thicker plain one.
    assert np.mean(right) > 0.97
    assert {character for _, character, _ in found} == set(LATIN)


# --- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_balanced_and_enough_is_reported(name: str) -> None:
    frames = {**load_task(name), "prototypes": load_prototypes(name)}
    for part, frame in frames.items():
        counts = frame["label"].value_counts()
        assert counts.nunique() == 1
        assert len(frame) == composed.PICTURES[part]
    assert len(frames["test"]) >= 500
    assert frames["train"]["label"].value_counts().min() >= 8 * 16  # draws that overlap little


def test_pictures_are_the_same_in_every_process() -> None:
    code = (
        "from tests.tasks.test_composed_tasks import *;"
        f"print(*(digest(*load_task(n).values(), load_prototypes(n)) for n in {NAMES[:3]}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [
        digest(*load_task(name).values(), load_prototypes(name)) for name in NAMES[:3]
    ]


# --- prototypes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_prototypes_are_a_part_of_their_own(name: str) -> None:
    prototypes, frames = load_prototypes(name), load_task(name)
    names = frames["train"].attrs["class_names"]
    assert prototypes.attrs["class_names"] == names
    assert set(prototypes["label"]) == set(range(len(names)))
    assert list(prototypes.columns) == list(frames["test"].columns)
    shown = pd.concat([frames[split] for split in SPLITS])["image"]
    assert not set(prototypes["image"]) & set(shown)


def test_prototypes_of_characters_are_clean() -> None:
    rows = load_prototypes("digits")
    assert len(rows) == len(DIGITS) * len(UPRIGHT)
    reader = Reader(replace(TASKS["glyphs-digits"], fonts=UPRIGHT))
    for image, label, _ in rows.itertuples(index=False):
        assert reader.read(grey(image))[1] == DIGITS[label]


def labelled(classes: int, per_class: int) -> pd.DataFrame:
    labels = np.tile(np.arange(classes), per_class)
    images = [bytes([n % 256, n // 256]) for n in range(len(labels))]
    frame = pd.DataFrame({"image": images, "label": labels, "idx": range(len(labels))})
    frame.attrs["class_names"] = [f"class {n}" for n in range(classes)]
    return frame


def test_prototypes_of_other_tasks_are_a_fixed_draw_from_train() -> None:
    train = labelled(3, 40)
    drawn = load_prototypes("eurosat", train)
    assert set(drawn["label"].value_counts()) == {16}
    assert set(drawn["image"]) < set(train["image"])
    # In whatever order the rows come.
    again = load_prototypes("eurosat", train.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(drawn, again)


def test_a_class_without_a_row_has_no_prototype() -> None:
    train = labelled(3, 4)
    with pytest.raises(CotoError, match=r"^task eurosat: class 'class 1' has no row for its proto"):
        load_prototypes("eurosat", train[train["label"] != 1])


def test_a_made_task_without_prototypes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "clean", lambda task, sources: {})
    with pytest.raises(CotoError, match=r"^task digits: coto\S+:scans makes no part prototypes"):
        load_prototypes("digits")
