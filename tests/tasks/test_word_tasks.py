"""Questions of words and numbers: labels recomputed, no form of a word in two parts."""

import re
import tarfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from nltk.stem import PorterStemmer

from coto.tasks.language import prompt, target
from coto.tasks.language.words import stem
from coto.tasks.load import load_task
from coto.tasks.text import vader

NAMES = ("nice-word", "larger-number", "spelling")
Frames = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def tasks(sdist: Path) -> dict[str, Frames]:
    return {name: load_task(name, corpora=sdist) for name in NAMES}


def swaps(word: str) -> list[str]:
    """Every swap of two neighbouring letters but the first."""
    return [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 1)]


def words(frames: Frames) -> pd.DataFrame:
    rows = pd.concat([rows.assign(split=split) for split, rows in frames.items()])
    return rows.assign(word=rows["instruction"].str.extract(r"^Word: (\w+)\n")[0])


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_balanced_whatever_the_limit(sdist: Path, tasks, name: str) -> None:
    for rows in tasks[name].values():
        assert rows["answer"].value_counts().nunique() == 1
        assert set(rows["answer"]) == {"yes", "no"}
        assert rows["choices"].map(list).map(tuple).unique().tolist() == [("yes", "no")]
        assert rows["set"].unique().tolist() == [name]
        assert not rows["instruction"].duplicated().any()
    few = load_task(name, corpora=sdist, limits={"train": 40, "validation": 10, "test": 20})
    for split, rows in few.items():
        pd.testing.assert_frame_equal(rows, tasks[name][split].iloc[: len(rows)])
        assert rows["answer"].value_counts().nunique() == 1
    assert len(tasks[name]["test"]) >= 1000


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_bare_and_answers_follow_a_blank(tasks, name: str) -> None:
    row = tasks[name]["train"].iloc[0]
    assert prompt(row["instruction"], name) == row["instruction"]
    assert row["instruction"].endswith("Answer:")
    assert target("yes", name) == " yes"


def test_nice_words_are_those_of_the_lexicon(sdist: Path, tasks) -> None:
    with tarfile.open(sdist) as archive:
        member = archive.extractfile("vaderSentiment-3.3.2/vaderSentiment/vader_lexicon.txt")
        lines = member.read().decode().splitlines()
    ratings = {}
    for line in lines:
        word, rating, *_ = line.split("\t")
        ratings[word] = float(rating)
    rows = words(tasks["nice-word"])
    assert len(rows) >= 3000
    assert not rows["word"].duplicated().any()
    for word, answer in zip(rows["word"], rows["answer"], strict=True):
        assert re.fullmatch(r"[a-z]{4,}", word)
        assert abs(ratings[word]) >= 1
        assert (ratings[word] > 0) == (answer == "yes")


def test_larger_numbers_are_larger_and_both_orders_are_in_one_part(tasks) -> None:
    parts: dict[frozenset[int], set[str]] = {}
    for split, rows in tasks["larger-number"].items():
        for question, answer in zip(rows["instruction"], rows["answer"], strict=True):
            first, second = map(
                int, re.fullmatch(r"Is (\d{3}) larger than (\d{3})\? Answer:", question).groups()
            )
            assert (answer == "yes") == (first > second)
            assert first != second
            parts.setdefault(frozenset((first, second)), set()).add(split)
    assert all(len(split) == 1 for split in parts.values())


def test_misspelled_words_are_swaps_of_words_that_occur(sdist: Path, tasks) -> None:
    texts = pd.concat([vader.read_corpus(sdist, name)["text"] for name in ("movies", "news")])
    counts = Counter(re.findall(r"\b[a-z]{5,10}\b", "\n".join(texts)))
    rows = words(tasks["spelling"])
    known = {word for word, count in counts.items() if count >= 2}
    for word, answer in zip(rows["word"], rows["answer"], strict=True):
        assert (answer == "yes") == (word in counts)
        assert word in known if answer == "yes" else set(swaps(word)) & known


@pytest.mark.parametrize("name", ["nice-word", "spelling"])
def test_no_form_of_a_word_is_in_two_parts(tasks, name: str) -> None:
    rows = words(tasks[name])
    rows = rows[rows["answer"] == "yes"] if name == "spelling" else rows
    for of in (stem, PorterStemmer().stem):
        parts = rows.groupby(rows["word"].map(of))["split"].nunique()
        assert parts.max() == 1
    assert stem("crying") == stem("cries")
    assert rows["word"].map(PorterStemmer().stem).nunique() < len(rows)  # there are such forms


def test_a_word_is_in_the_part_of_its_misspelling(tasks) -> None:
    rows = words(tasks["spelling"])
    right = rows[rows["answer"] == "yes"].set_index("word")["split"]
    found = 0
    for word, split in rows.loc[rows["answer"] == "no", ["word", "split"]].itertuples(index=False):
        own = [swap for swap in swaps(word) if swap in right.index]
        if len(own) == 1:
            assert right[own[0]] == split
            found += 1
    assert found > 1000


def test_the_lexicon_is_read_from_a_checked_archive_only(tmp_path: Path) -> None:
    from coto.errors import CotoError

    (tmp_path / "x.tar.gz").write_bytes(b"other")
    with pytest.raises(CotoError, match="sha256"):
        vader.read_lexicon(tmp_path / "x.tar.gz")
