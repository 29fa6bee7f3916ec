import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from sklearn.datasets import load_digits

from coto.errors import CotoError
from coto.tasks import registry
from coto.tasks.images import ImageTask
from coto.tasks.images.made import PER_CLASS, png
from coto.tasks.load import load_task
from coto.tasks.splits import SPLITS

TASKS = {n: task for n, task in registry.TASKS.items() if isinstance(task, ImageTask)}
OFFLINE = [task for task in TASKS.values() if task.source == "made"]
Frames = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def offline() -> dict[str, Frames]:
    return {task.name: load_task(task) for task in OFFLINE}


@pytest.fixture(scope="module")
def real_images() -> Path:
    """A mirror with real pictures: $COTO_MIRROR, or the folder beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "hub"
    mirror = Path(os.environ.get("COTO_MIRROR", beside))
    if not (mirror / "omniglot").is_dir():
        pytest.skip(f"no mirror of the hub at {mirror}; set COTO_MIRROR to one with omniglot")
    return mirror


def _pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def _square(i: int) -> bytes:
    """A picture that no other number has."""
    return png(np.random.default_rng(i).integers(0, 255, (6, 6), dtype=np.uint8))


def _mirror(root: Path, names: list[str] | None = None, **columns: Any) -> Path:
    """A mirror with Omniglot's Latin: 4 classes of 20 to train, of 5 to test.

    ``columns`` are functions of the row's number, `names` the classes' names.
    """
    columns = {"image": _square, "label": lambda i: i % 4, **columns}
    folder = root / "omniglot" / "latin"
    folder.mkdir(parents=True)
    (folder.parent / "README.md").write_text(
        "---\nconfigs:\n- config_name: latin\n  data_files:\n"
        "  - split: train\n    path: latin/train-*\n  - split: test\n    path: latin/test-*\n---\n"
    )
    label = ClassLabel(names=names) if names else Value("int64")
    features = Features({"image": ImageFeature(), "label": label})
    for split, numbers in (("train", range(80)), ("test", range(80, 100))):
        rows = {name: [make(i) for i in numbers] for name, make in columns.items()}
        # Arrow alone, as `datasets` would refuse the broken rows that are tested.
        arrays = {
            "image": pa.array(
                [{"bytes": content, "path": None} for content in rows["image"]],
                pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            ),
            "label": pa.array(rows["label"], pa.int64()),
        }
        schema = {"huggingface": json.dumps({"info": {"features": features.to_dict()}})}
        table = pa.table(arrays).replace_schema_metadata(schema)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return root


FOUR = ["an_a", "b", "c, or cee", "d"]


def _coop(root: Path, **changes: Any) -> Path:
    """A mirror with CoOp's layout of DTD: 3 classes, 4 pictures of each in each part."""
    folder = root / "CoOp" / "dtd"
    (folder / "images").mkdir(parents=True)
    split: dict[str, Any] = {}
    for start, part in ((0, "train"), (12, "val"), (24, "test")):
        split[part] = [[f"{i}.png", i % 3, f"kind_{i % 3}"] for i in range(start, start + 12)]
        for i in range(start, start + 12):
            (folder / "images" / f"{i}.png").write_bytes(_square(i))

    (folder / "split_zhou_DescribableTextures.json").write_text(json.dumps(split | changes))
    return root


def test_names_are_unique_and_entries_are_consistent() -> None:
    for task in TASKS.values():
        assert task.kind == "image"
        assert task.headline in task.metrics
        assert task.prompt.count("{}") == 1
        drawn = (".composed:" in task.code) or task.code.endswith(":rendered")
        assert bool(task.fonts) == drawn
        assert bool(task.characters) == (task.source == "made")
        # A task is read from one place.
        made = task.source == "made"
        assert [made, bool(task.hub_path), bool(task.files)].count(True) == 1
    assert sum(task.family == "omniglot" for task in TASKS.values()) == 6
    sets = {task.name.removesuffix("-coop") for task in TASKS.values() if task.family == "photos"}
    assert len(sets) == 11


def test_entries_import_nothing_heavy() -> None:
    code = (
        "import sys, coto.tasks.images;"
        "print(*{'pandas', 'numpy', 'torch', 'datasets', 'PIL'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


@pytest.mark.parametrize("name", [task.name for task in OFFLINE])
def test_offline_rows(offline: dict[str, Frames], name: str) -> None:
    frames = offline[name]
    assert tuple(frames) == SPLITS
    names = frames["train"].attrs["class_names"]
    for frame in frames.values():
        assert list(frame.columns) == ["image", "label", "idx"]
        assert frame["label"].dtype == frame["idx"].dtype == np.int64
        assert frame.attrs["class_names"] == names
        assert set(frame["label"]) == set(range(len(names)))
        assert frame["idx"].is_unique
    contents = pd.concat([frame["image"] for frame in frames.values()])
    assert contents.is_unique  # no picture is in two splits, nor twice in one
    assert frames["train"]["label"].value_counts().min() >= 16
    if TASKS[name].code.endswith(":rendered"):
        assert names == list(TASKS[name].characters)
        for split, count in PER_CLASS.items():
            assert set(frames[split]["label"].value_counts()) == {count}


def test_offline_rows_are_fixed(offline: dict[str, Frames]) -> None:
    # Which scans are where: a change here is a change of the benchmark.
    numbers = [f"{split} {list(offline['digits'][split]['idx'])}" for split in SPLITS]
    assert hashlib.sha256("\n".join(numbers).encode()).hexdigest()[:16] == DIGITS_ROWS
    # Rendered pixels may differ in their last bit between processors; their means do not.
    means = {
        name: round(float(np.mean([_pixels(image).mean() for image in frames["test"]["image"]])), 1)
        for name, frames in offline.items()
    }
    assert means == pytest.approx(MEANS, abs=0.11)


DIGITS_ROWS = "83770e31d933964f"
MEANS = {
    "digits": 77.7,
    "glyphs-latin": 196.3,
    "glyphs-greek": 196.2,
    "glyphs-cyrillic": 194.2,
    "glyphs-digits": 198.6,
    "glyphs-left": 190.0,
    "glyphs-turns": 195.7,
    "glyphs-fonts": 196.3,
    "glyphs-same": 189.9,
    "glyphs-smaller": 190.4,
}


def test_the_scans_are_scikit_learns(offline: dict[str, Frames]) -> None:
    scans = load_digits()
    for frame in offline["digits"].values():
        for image, label, idx in frame.sample(20, random_state=0).itertuples(index=False):
            assert label == scans.target[idx]
            assert np.abs(_pixels(image) / 255 * 16 - scans.images[idx]).max() < 0.05


def test_limits_give_subsets(offline: dict[str, Frames]) -> None:
    task = TASKS["glyphs-digits"]
    limited = load_task(task, limits={"train": 60, "test": 20})
    assert [len(limited[split]) for split in SPLITS] == [
        60,
        len(offline[task.name]["validation"]),
        20,
    ]
    pd.testing.assert_frame_equal(limited["train"], offline[task.name]["train"].iloc[:60])
    assert limited["train"].attrs["class_names"] == list("0123456789")
    assert limited["train"]["label"].nunique() > 8


def test_rows_survive_a_file(tmp_path: Path, offline: dict[str, Frames]) -> None:
    frame = offline["digits"]["validation"]
    frame.to_parquet(tmp_path / "rows.parquet")
    again = pd.read_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(again, frame)
    assert again.attrs == frame.attrs


def test_class_names_are_words() -> None:
    assert TASKS["imagenet-1k"].class_name("tench, Tinca tinca") == "tench"
    assert TASKS["food101"].class_name("apple_pie") == "apple pie"
    for name in ("eurosat", "eurosat-coop"):
        own = TASKS[name].class_name("HerbaceousVegetation")
        assert own == "Herbaceous Vegetation Land"


def test_a_class_name_is_a_setting_of_its_task_alone() -> None:
    entries = {name: json.dumps(asdict(task)) for name, task in TASKS.items()}
    assert {name for name, entry in entries.items() if "Sea or Lake" in entry} == {
        *("eurosat", "eurosat-coop")
    }


@pytest.mark.parametrize(
    ("name", "classes", "train", "validation", "test"),
    [
        ("omniglot-latin", 26, 338, 26, 156),
        ("omniglot-japanese-katakana", 47, 611, 47, 282),
        ("fashion-mnist", 10, 10799, 1201, 4000),
    ],
)
def test_real_mirror(
    real_images: Path,
    tmp_path: Path,
    name: str,
    classes: int,
    train: int,
    validation: int,
    test: int,
) -> None:
    limits = {"train": 500} if name == "fashion-mnist" else None
    frames = load_task(TASKS[name], mirror=real_images, cache=tmp_path, limits=limits)
    sizes = {"train": limits["train"] if limits else train, "validation": validation, "test": test}
    assert {split: len(frame) for split, frame in frames.items()} == sizes
    assert len(frames["test"].attrs["class_names"]) == classes
    assert set(frames["test"]["label"]) == set(range(classes))
    assert set(frames["validation"]["label"]) == set(range(classes))
    assert pd.concat(frames.values())["image"].is_unique


def test_a_mirror_by_hand(tmp_path: Path) -> None:
    frames = load_task(
        TASKS["omniglot-latin"], mirror=_mirror(tmp_path, FOUR), cache=tmp_path / "cache"
    )
    assert {split: len(frame) for split, frame in frames.items()} == {
        **{"train": 72, "validation": 8, "test": 20}
    }
    assert frames["test"].attrs["class_names"] == ["an a", "b", "c", "d"]
    assert set(frames["validation"]["label"].value_counts()) == {2}
    for split, first in (("train", 0), ("validation", 0), ("test", 80)):
        for image, label, idx in frames[split].itertuples(index=False):
            assert image == _square(first + idx)
            assert label == (first + idx) % 4


def test_what_is_reported_is_not_trained_on(tmp_path: Path) -> None:
    mirror = _mirror(tmp_path, FOUR, image=lambda i: _square(i % 90))  # 80 … 89 and 0 … 9 to test
    frames = load_task("omniglot-latin", mirror=mirror, cache=tmp_path / "cache")
    assert len(frames["test"]) == 20
    assert len(frames["train"]) + len(frames["validation"]) == 70
    reported = set(frames["test"]["image"])
    assert not reported & {*frames["train"]["image"], *frames["validation"]["image"]}


@pytest.mark.parametrize(
    ("names", "columns", "message"),
    [
        (
            FOUR,
            {"image": lambda i: b"no image" if i == 7 else _square(i)},
            r"image 7 of \w+: is no",
        ),
        (FOUR, {"image": lambda i: None if i == 84 else _square(i)}, r"test: image 4 is missing"),
        (FOUR, {"image": lambda i: _square(i)[:70] if i == 9 else _square(i)}, r"image 9 of .* no"),
        (None, {}, r"label has no class names, expected a ClassLabel"),
    ],
)
def test_bad_rows_are_told_in_one_line(
    tmp_path: Path, names: list[str] | None, columns: dict, message: str
) -> None:
    mirror = _mirror(tmp_path, names, **columns)
    with pytest.raises(CotoError, match=rf"^task omniglot-latin: .*{message}") as error:
        load_task("omniglot-latin", mirror=mirror, cache=tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_omniglot_needs_a_mirror() -> None:
    with pytest.raises(CotoError, match=r"^task omniglot-greek: the hub has no Omniglot .*mirror"):
        load_task(TASKS["omniglot-greek"])


def test_without_hub_or_mirror_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CotoError, match=r"^task dtd: cannot read tanganke/dtd.*data.mirror"):
        load_task(TASKS["dtd"], cache=tmp_path)


def test_own_splits_and_arraysare_read(tmp_path: Path) -> None:
    task = ImageTask(
        name="other",
        code="coto.tasks.images.hub:table_rows",
        family="photos",
        summary="",
        source="hub",
        hub_path="some/set",
        hub_config="default",
        image_column="img",
        label_column="fine",
        validation_split="val",
        test_split="held",
    )
    folder = tmp_path / "some" / "set"
    features = Features({"img": ImageFeature(), "fine": ClassLabel(names=FOUR)})
    tables = {
        split: Dataset.from_dict(
            {
                "img": [{"bytes": _square(start + i), "path": None} for i in range(8)],
                "fine": [i % 4 for i in range(8)],
            },
            features=features,
        )
        for start, split in ((0, "train"), (8, "val"), (16, "held"))
    }
    for split, table in DatasetDict(tables).items():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        table.to_parquet(folder / "data" / f"{split}-0.parquet")
    lines = [f"  - split: {split}\n    path: data/{split}-*\n" for split in tables]
    header = "---\nconfigs:\n- config_name: default\n  data_files:\n"
    (folder / "README.md").write_text(header + "".join(lines) + "---\n")
    frames = load_task(task, mirror=tmp_path, cache=tmp_path / "cache")
    for split, start in (("train", 0), ("validation", 8), ("test", 16)):
        assert {*frames[split]["image"]} == {_square(start + i) for i in range(8)}


def test_coops_splits_are_read_as_they_are(tmp_path: Path) -> None:
    frames = load_task(TASKS["dtd-coop"], mirror=_coop(tmp_path), limits={"train": 9})
    assert [len(frames[split]) for split in SPLITS] == [9, 12, 12]
    assert frames["test"].attrs["class_names"] == ["kind 0", "kind 1", "kind 2"]
    for image, label, idx in frames["test"].itertuples(index=False):
        assert image == _square(24 + idx)
        assert label == idx % 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val": None}, r"is no split of CoOp \(TypeError\), expected train, val and test"),
        ({"test": [["0.png", 7, "x"]]}, r"expected 0, 1, … with a name each"),
        ({"test": [["gone.png", 0, "kind_0"]]}, r"images.gone.png cannot be read .*split names it"),
    ],
)
def test_broken_coop_splits_are_told(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(CotoError, match=rf"^task dtd-coop: .*{message}"):
        load_task(TASKS["dtd-coop"], mirror=_coop(tmp_path, **changes))
    with pytest.raises(CotoError, match=r"^task dtd-coop: the hub has no copy with CoOp's split"):
        load_task(TASKS["dtd-coop"])
