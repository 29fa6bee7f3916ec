import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coto.errors import CotoError
from coto.tasks import splits
from coto.tasks.load import load_task


def _rows(**columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns).assign(key=columns["text"])


def test_the_split_of_a_text_never_changes() -> None:
    """A change here moves rows between train and test of every task: results stop comparing."""
    texts = ["a fine film", "a dull film", "no", "yes", "maybe", "film 17", "film 18", "film 19"]
    expected = ["train", "validation", "validation", "train", "test", "train", "train", "train"]
    assert [splits.split_of(text) for text in texts] == expected


def test_shares_are_as_documented() -> None:
    parts = pd.Series([splits.split_of(f"text {i}") for i in range(20_000)]).value_counts(
        normalize=True
    )
    assert parts["test"] == pytest.approx(splits.TEST_SHARE, abs=0.01)
    assert parts["validation"] == pytest.approx(splits.VALIDATION_SHARE, abs=0.01)


@given(st.text())
def test_the_same_text_in_other_clothes_stays_in_its_split(text: str) -> None:
    assert splits.split_of(f"  {text.upper().lower()}\n") == splits.split_of(text.lower())
    assert splits.normalise(splits.normalise(text)) == splits.normalise(text)


def test_parts_of_a_digest_do_not_run_together() -> None:
    assert splits.digest("row", "ab", "c") != splits.digest("row", "a", "bc")
    assert splits.digest("row", "ab") != splits.digest("key", "ab")


def test_duplicates_leave_one_row_and_contradictions_none() -> None:
    rows = _rows(text=["Good film", "good  film", "odd", "odd", "alone"], label=[1, 1, 0, 1, 0])
    kept = splits.drop_duplicates(rows)
    assert sorted(kept["text"]) == ["Good film", "alone"]
    shuffled = splits.drop_duplicates(rows.iloc[::-1])
    assert set(shuffled["text"]) == set(kept["text"])


def test_pairs_are_duplicates_only_as_a_whole() -> None:
    rows = _rows(text=["a", "a", "a"], text_pair=["b", "c", "B"], label=[1, 0, 1])
    assert len(splits.drop_duplicates(rows)) == 2


def test_validation_is_cut_by_first_text_and_avoids_the_test_rows() -> None:
    texts = [f"text {i // 3}" for i in range(900)]
    pairs = [f"pair {i}" for i in range(900)]
    train = _rows(text=texts, text_pair=pairs, label=[i % 2 for i in range(900)])
    test = train.iloc[:30]
    cut = splits.cut_validation(train, test)
    assert set(cut) == {"train", "validation"}
    assert not set(cut["train"]["text"]) & set(cut["validation"]["text"])
    assert len(cut["train"]) + len(cut["validation"]) == 870
    assert 40 < len(cut["validation"]) < 140
    splits.check_disjoint("made-up", {**cut, "test": test})


def test_a_text_in_two_splits_is_refused() -> None:
    frames = {
        "train": _rows(text=["One film"], label=[1]),
        "test": _rows(text=["one film"], label=[1]),
    }
    with pytest.raises(CotoError, match="task made-up: 'one film' is in both train and test"):
        splits.check_disjoint("made-up", frames)


def test_rows_of_one_key_stay_together() -> None:
    rows = pd.DataFrame({"text": list("abcdef"), "label": 0, "key": list("xyzxyz")})
    order = splits.in_order(rows)["key"].to_list()
    assert [order[i] == order[i + 1] for i in (0, 2, 4)] == [True] * 3


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"dev": 5}, "limits.dev: unknown split, expected one of train, validation, test"),
        ({"train": 0}, "limits.train: 0, expected at least 1 or null"),
    ],
)
def test_bad_limits_are_refused(limits: dict, message: str) -> None:
    with pytest.raises(CotoError, match=message):
        load_task("movies", limits=limits)
