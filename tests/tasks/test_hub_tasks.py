from pathlib import Path
from typing import Any

import huggingface_hub
import pandas as pd
import pytest

from coto.errors import CotoError
from coto.tasks.hub import content_digest, mirror_files
from coto.tasks.load import load_task
from coto.tasks.registry import TASKS

README = """---
configs:
- config_name: {config}
  data_files:
  - split: train
    path: {config}/train-*
  - split: {test}
    path: {config}/{test}-*
---
# GLUE
"""


def _mirror(
    root: Path, config: str = "cola", *, test: str = "validation", rows: int = 60, **columns: Any
) -> Path:
    """A mirror with one configuration; ``columns`` are functions of the row's number."""
    columns = columns or {"sentence": "sentence {}".format, "label": lambda i: i % 2}
    folder = root / "nyu-mll" / "glue" / config
    folder.mkdir(parents=True)
    (folder.parent / "README.md").write_text(README.format(config=config, test=test))
    for split, start, stop in (("train", 0, rows), (test, rows, rows + 20)):
        numbers = range(start, stop)
        table = {name: [make(i) for i in numbers] for name, make in columns.items()}
        pd.DataFrame({**table, "idx": numbers}).to_parquet(
            folder / f"{split}-00000-of-00001.parquet"
        )
    return root


def _sentences(frames: dict[str, pd.DataFrame]) -> list[str]:
    return sorted(text for frame in frames.values() for text in frame["text"])


@pytest.mark.parametrize(
    ("name", "train", "validation", "test"),
    [
        ("cola", 7664, 839, 1043),
        ("mrpc", 3305, 363, 408),
        ("rte", 2244, 244, 277),
        ("sst2", 60258, 6715, 872),
    ],
)
def test_real_glue(
    real_mirror: Path, tmp_path: Path, name: str, train: int, validation: int, test: int
) -> None:
    frames = load_task(name, mirror=real_mirror, cache=tmp_path)
    assert {split: len(frame) for split, frame in frames.items()} == {
        "train": train,
        "validation": validation,
        "test": test,
    }
    for frame in frames.values():
        assert ("text_pair" in frame) == TASKS[name].is_pair
        assert set(frame["label"]) == {0, 1}
    limited = load_task(name, mirror=real_mirror, cache=tmp_path, limits={"train": 50})
    pd.testing.assert_frame_equal(limited["train"], frames["train"].iloc[:50])


def test_the_real_mirror_lacks_tasks_and_says_so(real_mirror: Path) -> None:
    with pytest.raises(
        CotoError, match=r"^task wnli: .*README.md has no config 'wnli', it has cola"
    ):
        load_task("wnli", mirror=real_mirror)


def test_mirrors_with_one_readme_give_their_own_rows(tmp_path: Path) -> None:
    # `datasets` alone answers the second and third call with the first mirror's rows.
    first = _mirror(tmp_path / "first")
    label = {"label": lambda i: i % 2}
    second = _mirror(tmp_path / "second", sentence="other {}".format, rows=50, **label)
    cache = tmp_path / "cache"
    assert "sentence 3" in _sentences(load_task("cola", mirror=first, cache=cache))
    others = _sentences(load_task("cola", mirror=second, cache=cache))
    assert len(others) == 70
    assert all(text.startswith("other") for text in others)
    data = second / "nyu-mll/glue/cola/train-00000-of-00001.parquet"
    pd.read_parquet(data).iloc[:40].to_parquet(data)
    assert len(_sentences(load_task("cola", mirror=second, cache=cache))) == 60


def test_regression_and_mnli_read_their_own_columns_and_splits(tmp_path: Path) -> None:
    score = {"sentence1": "one {}".format, "sentence2": "two {}".format, "label": lambda i: i / 20}
    frames = load_task("stsb", mirror=_mirror(tmp_path / "a", "stsb", **score), cache=tmp_path)
    assert frames["test"]["label"].dtype == float
    assert sorted(frames["test"]["label"]) == pytest.approx([i / 20 for i in range(60, 80)])
    mnli = {"premise": "one {}".format, "hypothesis": "two {}".format, "label": lambda i: i % 3}
    mirror = _mirror(tmp_path / "b", "mnli", test="validation_matched", **mnli)
    frames = load_task("mnli", mirror=mirror, cache=tmp_path)
    assert set(frames["test"]["label"]) == {0, 1, 2}
    assert frames["test"]["text_pair"].str.startswith("two").all()


def test_row_order_of_a_mirror_does_not_matter(tmp_path: Path) -> None:
    one, other = (_mirror(tmp_path / name, rows=200) for name in ("one", "other"))
    data = other / "nyu-mll/glue/cola/train-00000-of-00001.parquet"
    pd.read_parquet(data).sample(frac=1, random_state=1).to_parquet(data)
    frames = load_task("cola", mirror=one, cache=tmp_path / "cache")
    for split, frame in load_task("cola", mirror=other, cache=tmp_path / "cache").items():
        pd.testing.assert_frame_equal(frame, frames[split])


def test_mirror_files_are_what_a_task_reads(tmp_path: Path) -> None:
    mirror = _mirror(tmp_path)
    files = mirror_files(TASKS["cola"], mirror)
    assert [path.relative_to(mirror / "nyu-mll/glue").as_posix() for path in files] == [
        "README.md",
        "cola/train-00000-of-00001.parquet",
        "cola/validation-00000-of-00001.parquet",
    ]
    before = content_digest(files)
    files[1].write_bytes(files[2].read_bytes())
    assert content_digest(files) != before


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sentense": str, "label": lambda i: 0}, r"no column 'sentence', it has sentense, label"),
        ({"sentence": str}, r"no column 'label'"),
        ({"sentence": str, "label": lambda i: -1}, r"row \d+ has label -1, expected 0 \(unacc"),
        (
            {"sentence": str, "label": lambda i: "yes"},
            r"has label yes, expected 0 \(unacceptable",
        ),
        ({"sentence": lambda i: " ", "label": lambda i: 0}, r"row \d+ has an empty text"),
        ({"sentence": lambda i: None, "label": lambda i: 0}, r"row \d+ has an empty text"),
    ],
)
def test_bad_rows_are_told_in_one_line(tmp_path: Path, columns: dict, message: str) -> None:
    with pytest.raises(CotoError, match=rf"^task cola: .*{message}") as error:
        load_task("cola", mirror=_mirror(tmp_path, **columns), cache=tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_missing_parts_of_a_mirror_are_told_in_one_line(tmp_path: Path) -> None:
    task = TASKS["rte"]
    with pytest.raises(CotoError, match=r"^task rte: data.mirror '.*none' is no directory"):
        mirror_files(task, tmp_path / "none")
    with pytest.raises(CotoError, match=r"^task rte: .*README.md is missing, expected the hub's"):
        mirror_files(task, tmp_path)
    mirror = _mirror(tmp_path / "mirror")
    with pytest.raises(CotoError, match=r"README.md has no config 'rte', it has cola"):
        mirror_files(task, mirror)
    (mirror / "nyu-mll/glue/cola/train-00000-of-00001.parquet").unlink()
    with pytest.raises(CotoError, match=r"cola/train-\* is missing, .*README.md declares it"):
        mirror_files(TASKS["cola"], mirror)
    readme = mirror / "nyu-mll/glue/README.md"
    readme.write_text("---\nconfigs: [oh: {\n---\n")
    with pytest.raises(CotoError, match=r"README.md has no readable `configs:` header"):
        mirror_files(TASKS["cola"], mirror)


def test_a_missing_split_is_told(tmp_path: Path) -> None:
    with pytest.raises(CotoError, match=r"has no split 'validation', it has train, test"):
        load_task("cola", mirror=_mirror(tmp_path, test="test"), cache=tmp_path / "cache")


def test_without_hub_or_mirror_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        CotoError, match=r"^task wnli: cannot read nyu-mll/glue.*data.mirror"
    ) as error:
        load_task("wnli", cache=tmp_path)
    assert "\n" not in str(error.value)
