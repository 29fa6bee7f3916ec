import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from coto.errors import CotoError
from coto.tasks.load import load_task
from coto.tasks.registry import TASKS
from coto.tasks.splits import SPLITS, normalise
from coto.tasks.text import vader
from coto.tasks.text.offline import disturb

Frames = dict[str, dict[str, pd.DataFrame]]
SHUFFLED = ["acceptability", "same-source"]

# One digest per task over all rows of all parts. A change here is a change of the benchmark:
# results of before and after do not compare.
GOLDEN = {
    "movies": "be574e6424a020ab",
    "products": "67deb4d2c18ae07d",
    "tweets": "7700af1f3968c2d7",
    "news": "31b5e3b43b723513",
    "acceptability": "c05c4555afa8f428",
    "same-source": "a97cccac6c8fc275",
}
NAMES = list(GOLDEN)


def majority_share(frame: pd.DataFrame) -> float:
    return float(frame["label"].value_counts(normalize=True).iloc[0])


def _digest(frames: dict[str, pd.DataFrame]) -> str:
    state = hashlib.sha256()
    for split in SPLITS:
        for row in frames[split].itertuples(index=False):
            state.update(f"{split}\t{tuple(row)!r}\n".encode())
    return state.hexdigest()[:16]


def _texts(frame: pd.DataFrame) -> set[str]:
    columns = [column for column in ("text", "text_pair") if column in frame]
    return {normalise(text) for column in columns for text in frame[column]}


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_fixed(offline_frames: Frames, name: str) -> None:
    assert _digest(offline_frames[name]) == GOLDEN[name]


@pytest.mark.parametrize("name", NAMES)
def test_columns_and_sizes(offline_frames: Frames, name: str) -> None:
    frames = offline_frames[name]
    assert tuple(frames) == SPLITS
    for split, frame in frames.items():
        pair = ["text_pair"] if TASKS[name].is_pair else []
        assert list(frame.columns) == ["text", *pair, "label", "idx"]
        assert frame["label"].dtype == frame["idx"].dtype == np.int64
        assert set(frame["label"]) == {0, 1}
        assert list(frame["idx"]) == list(range(len(frame)))
        assert majority_share(frame) < 0.8
        assert len(frame) >= {"train": 1300, "validation": 200, "test": 500}[split]


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_in_two_splits(offline_frames: Frames, name: str) -> None:
    train, validation, test = (_texts(offline_frames[name][split]) for split in SPLITS)
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.parametrize("name", NAMES)
def test_row_order_of_the_corpora_does_not_matter(
    offline_frames: Frames, sdist: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = vader.read_corpus

    def shuffled(path: Path, corpus: str) -> pd.DataFrame:
        return read(path, corpus).sample(frac=1, random_state=3)

    monkeypatch.setattr(vader, "read_corpus", shuffled)
    for split, frame in load_task(name, corpora=sdist).items():
        pd.testing.assert_frame_equal(frame, offline_frames[name][split])


def test_limits_take_a_prefix(offline_frames: Frames, sdist: Path) -> None:
    limited = load_task("same-source", corpora=sdist, limits={"train": 100, "test": None})
    for split, size in {"train": 100, "validation": None, "test": None}.items():
        whole = offline_frames["same-source"][split]
        pd.testing.assert_frame_equal(limited[split], whole.iloc[:size])
    assert majority_share(limited["train"]) < 0.55


@pytest.mark.parametrize("name", SHUFFLED)
def test_a_bag_of_words_learns_nothing(offline_frames: Frames, name: str) -> None:
    train, test = (offline_frames[name][split].iloc[:4000] for split in ("train", "test"))
    joined = [
        frame["text"] + " " + frame["text_pair"] if "text_pair" in frame else frame["text"]
        for frame in (train, test)
    ]
    # Counts, not presence: that two snippets share a word is the task, not a shortcut.
    counts = CountVectorizer(token_pattern=r"\S+")
    model = LogisticRegression(max_iter=200).fit(counts.fit_transform(joined[0]), train["label"])
    accuracy = model.score(counts.transform(joined[1]), test["label"])
    assert accuracy == pytest.approx(0.5, abs=0.03)


def test_lengths_do_not_give_sources_away(offline_frames: Frames) -> None:
    train, test = (offline_frames["same-source"][split] for split in ("train", "test"))

    def lengths(frame: pd.DataFrame) -> np.ndarray:
        a, b = (frame[column].str.len().to_numpy() / 100 for column in ("text", "text_pair"))
        return np.stack([a, b, np.abs(a - b), a * b], axis=1)

    model = LogisticRegression().fit(lengths(train), train["label"])
    assert model.score(lengths(test), test["label"]) < 0.55


def test_sentiment_follows_the_human_ratings(offline_frames: Frames, sdist: Path) -> None:
    for name in ("movies", "products", "tweets", "news"):
        corpus = vader.read_corpus(sdist, name)
        rows = pd.concat(offline_frames[name].values()).merge(corpus, on="text")
        assert ((rows["rating"] > 0) == (rows["label"] == 1)).all()
        # A text that people rated twice counts if either mean is clear of neutral.
        clearest = rows["rating"].abs().groupby(rows["text"]).max()
        assert clearest.min() >= TASKS[name].min_rating


def test_acceptability_keeps_both_versions_together(offline_frames: Frames) -> None:
    for frame in offline_frames["acceptability"].values():
        words = frame["text"].map(lambda text: tuple(sorted(text.split())))
        labels = frame.groupby(words)["label"].agg(lambda group: tuple(sorted(group)))
        assert set(labels) == {(0, 1)}
        assert majority_share(frame) == 0.5


@pytest.mark.parametrize(
    "text", ["Too short to shuffle.", "one, two, three, four, five, six, seven,", "ha " * 20, ""]
)
def test_what_cannot_be_disturbed_is_left_out(text: str) -> None:
    assert disturb(text) is None


def test_disturbing_moves_words_but_no_marks() -> None:
    text = "She said, as we had all been told before the long war, that nobody would ever come."
    disturbed = disturb(text)
    assert disturbed is not None
    assert disturbed == disturb(text)
    assert sorted(disturbed.split()) == sorted(text.split())
    assert [bool(re.search(r"\W$", word)) for word in disturbed.split()] == [
        bool(re.search(r"\W$", word)) for word in text.split()
    ]
    assert sum(a != b for a, b in zip(text.split(), disturbed.split(), strict=True)) >= 3


def test_pairs_come_from_where_their_label_says(offline_frames: Frames, sdist: Path) -> None:
    corpora = [
        vader.read_corpus(sdist, name).assign(corpus=name) for name in TASKS["same-source"].corpora
    ]
    snippets = pd.concat(corpora).set_index("text")
    article = (snippets["corpus"] + " " + snippets["source"]).to_dict()
    parts = []
    for frame in offline_frames["same-source"].values():
        first, second = frame["text"].map(article), frame["text_pair"].map(article)
        assert ((first == second) == (frame["label"] == 1)).all()
        assert (first.str.split().str[0] == second.str.split().str[0]).all()
        parts.append(set(first) | set(second))
        # Each text is once in a pair of each label, at its place: alone it says nothing.
        for column in ("text", "text_pair"):
            assert set(frame.groupby(column)["label"].agg(sorted).map(tuple)) == {(0, 1)}
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_missing_or_unknown_things_are_told_in_one_line() -> None:
    with pytest.raises(CotoError, match=r"^task 'moveis': did you mean 'movies'\? expected one"):
        load_task("moveis")
    with pytest.raises(CotoError, match=r"^task movies: needs the archive vaderSentiment-3.3.2"):
        load_task("movies")
    with pytest.raises(CotoError, match=r"^/nowhere: no such file, expected the archive"):
        load_task("movies", corpora=Path("/nowhere"))
