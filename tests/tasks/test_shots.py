"""Few-shot parts of a task."""

import logging

import pandas as pd
import pytest

from coto.tasks.splits import draw


@pytest.fixture
def rows():
    sizes = {0: 9, 1: 5, 3: 20}
    labels = [label for label, size in sizes.items() for _ in range(size)]
    frame = pd.DataFrame({"label": labels, "idx": range(100, 134)}).sample(frac=1, random_state=0)
    frame.attrs["class_names"] = ["a", "b", "c", "d"]
    return frame


def drawn(frame):
    return {int(label): set(part["idx"]) for label, part in frame.groupby("label")}


def test_every_class_gets_its_shots_once_each(rows):
    found = draw(rows, 4, seed=0)
    assert found["label"].tolist() == [0] * 4 + [1] * 4 + [3] * 4
    assert found["idx"].is_unique
    truth = dict(zip(rows["idx"], rows["label"], strict=True))
    assert all(truth[i] == label for i, label in zip(found["idx"], found["label"], strict=True))
    assert found.attrs == {"class_names": ["a", "b", "c", "d"], "short_classes": []}


def test_the_draw_is_a_function_of_rows_shots_and_seed(rows):
    found = draw(rows, 4, seed=3)
    pd.testing.assert_frame_equal(found, draw(rows.sample(frac=1, random_state=1), 4, seed=3))
    others = [drawn(draw(rows, 4, seed=seed)) for seed in range(4)]
    assert len({tuple(sorted(other[3])) for other in others}) == 4


def test_fewer_shots_are_a_part_of_more(rows):
    few, many = drawn(draw(rows, 2, seed=1)), drawn(draw(rows, 5, seed=1))
    assert all(few[label] < many[label] for label in few)


def test_a_class_is_drawn_without_regard_to_others(rows):
    alone = rows[rows["label"] == 3]
    assert drawn(draw(alone, 4, seed=2))[3] == drawn(draw(rows, 4, seed=2))[3]
    # and not all classes from the same positions
    twins = pd.concat([alone, alone.assign(label=4)])
    found = drawn(draw(twins, 4, seed=2))
    assert found[3] != found[4]


def test_every_row_is_as_likely_as_any_other(rows):
    counts = pd.concat([draw(rows, 5, seed) for seed in range(400)])["idx"].value_counts()
    big = [counts[i] for i in rows["idx"][rows["label"] == 3]]
    assert all(60 < count < 145 for count in big)  # 100 expected; 4.5 standard deviations


def test_a_short_class_repeats_its_rows_and_is_told(rows, caplog):
    with caplog.at_level(logging.WARNING):
        found = draw(rows, 8, seed=0)
    assert found["label"].value_counts().to_dict() == {0: 8, 1: 8, 3: 8}
    assert drawn(found)[1] == set(rows["idx"][rows["label"] == 1])
    assert found.attrs["short_classes"] == [1]
    assert "1 classes have fewer than 8 rows: labels [1]" in caplog.text


def test_attributes_survive_parquet(rows, tmp_path):
    found = draw(rows, 8, seed=0)
    found.to_parquet(tmp_path / "rows.parquet", index=False)
    assert pd.read_parquet(tmp_path / "rows.parquet").attrs == found.attrs
