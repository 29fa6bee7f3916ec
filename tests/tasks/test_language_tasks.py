"""The laptop's questions: what can be answered without reading them is answered at chance."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from coto.errors import CotoError
from coto.tasks.language import prompt, target
from coto.tasks.language.offline import BLANK
from coto.tasks.load import load_task
from coto.tasks.registry import TASKS
from coto.tasks.splits import SPLITS, normalise
from coto.tasks.text import vader
from coto.tasks.text.vader import snippets_of

Frames = dict[str, pd.DataFrame]
SETS = TASKS["snippets"].sets
# A change here is a change of the benchmark: results of before and after do not compare.
GOLDEN = "90682d3a49b2f612"


@pytest.fixture(scope="module")
def frames(sdist: Path) -> Frames:
    """All rows by split."""
    return load_task("snippets", corpora=sdist)


def _of(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[frame["set"] == name].reset_index(drop=True)


def _place(frame: pd.DataFrame) -> np.ndarray:
    return np.array([c.index(a) for c, a in zip(frame["choices"], frame["answer"], strict=True)])


def _at_chance(right: np.ndarray) -> bool:
    """Whether so many right answers of two are no surprise."""
    return binomtest(int(right.sum()), len(right)).pvalue > 0.01


def test_rows_are_fixed(frames: Frames) -> None:
    state = hashlib.sha256()
    for split in SPLITS:
        for row in frames[split].itertuples(index=False):
            state.update(f"{split}\t{tuple(row)!r}\n".encode())
    assert state.hexdigest()[:16] == GOLDEN


def test_columns_and_sizes(frames: Frames) -> None:
    assert tuple(frames) == SPLITS
    for split, frame in frames.items():
        assert list(frame.columns) == ["set", "instruction", "choices", "answer", "idx"]
        for name in SETS:
            rows = _of(frame, name)
            assert len(rows) >= {"train": 1800, "validation": 250, "test": 700}[split]
            assert rows["idx"].is_unique
            assert not rows["instruction"].map(normalise).duplicated().any()
            for choices, answer in zip(rows["choices"], rows["answer"], strict=True):
                assert len(choices) == len(set(map(normalise, choices))) == 2
                assert answer in choices
    assert frames["train"].groupby("set").size().nunique() == 1


def test_items_are_short(frames: Frames) -> None:
    for frame in frames.values():
        asked = map(prompt, frame["instruction"], frame["set"])
        told = map(target, frame["answer"], frame["set"])
        words = [len((a + t).split()) for a, t in zip(asked, told, strict=True)]
        assert max(words) <= 44  # about 60 tokens


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("limit", [None, 1, 7, 32, 96, 250])
def test_right_answers_are_balanced_at_any_limit(
    frames: Frames, name: str, limit: int | None
) -> None:
    for frame in frames.values():
        first = int((_place(_of(frame, name).iloc[:limit]) == 0).sum())
        total = len(_of(frame, name).iloc[:limit])
        assert abs(2 * first - total) <= 1  # so that always saying one place is at chance


def test_training_takes_turns(frames: Frames) -> None:
    for limit in (3, 48, 768):
        assert set(Counter(frames["train"]["set"].iloc[:limit]).values()) == {limit // 3}


def test_a_smaller_limit_gives_a_subset(frames: Frames, sdist: Path) -> None:
    limited = load_task("snippets", corpora=sdist, limits={"train": 100, "test": 20})
    pd.testing.assert_frame_equal(limited["train"], frames["train"].iloc[:100])
    pd.testing.assert_frame_equal(limited["validation"], frames["validation"])
    for name in SETS:
        pd.testing.assert_frame_equal(
            _of(limited["test"], name), _of(frames["test"], name).iloc[:20]
        )


def test_row_order_of_the_corpora_does_not_matter(
    frames: Frames, sdist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = vader.read_corpus

    def shuffled(path: Path, corpus: str) -> pd.DataFrame:
        return read(path, corpus).sample(frac=1, random_state=3)

    monkeypatch.setattr(vader, "read_corpus", shuffled)
    for split, frame in load_task("snippets", corpora=sdist).items():
        pd.testing.assert_frame_equal(frame, frames[split])


def test_articles_and_snippets_are_in_one_part(frames: Frames, sdist: Path) -> None:
    unit = {}
    for corpus in ("news", "products"):
        snippets = snippets_of(vader.read_corpus(sdist, corpus), 1)
        unit |= dict(zip(snippets["text"], snippets["unit"], strict=True))
    parts: list[set[str]] = []
    for frame in frames.values():
        following = _of(frame, "next-sentence")
        texts = [*following["instruction"], *(t for c in following["choices"] for t in c)]
        reviews = _of(frame, "sentiment-question")["instruction"]
        reviews = reviews.str.removeprefix("Movie review: ").str.split("\n").str[0]
        filled = [
            row.instruction.split("\n")[0].replace(BLANK, row.answer)
            for row in _of(frame, "word-choice").itertuples()
        ]
        # A film snippet may be asked about in two sets, but never in two parts.
        parts.append({unit[text] for text in texts} | {*map(normalise, [*reviews, *filled])})
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_the_right_sentence_is_the_next_one(frames: Frames, sdist: Path) -> None:
    places = {}
    for corpus in ("news", "products"):
        rows = vader.read_corpus(sdist, corpus)
        number = rows["id"].str.partition("_")[2].astype(int)
        keys = zip([corpus] * len(rows), rows["source"], number, strict=True)
        places |= dict(zip(rows["text"], keys, strict=True))
    for frame in frames.values():
        for row in _of(frame, "next-sentence").itertuples():
            corpus, article, number = places[row.instruction]
            wrong = next(choice for choice in row.choices if choice != row.answer)
            assert places[row.answer] == (corpus, article, number + 1)
            assert places[wrong][0] == corpus
            assert places[wrong][1] != article


def test_answers_follow_the_human_ratings(frames: Frames, sdist: Path) -> None:
    rating = vader.read_corpus(sdist, "movies").groupby("text")["rating"]
    lowest, highest = rating.min().to_dict(), rating.max().to_dict()
    for frame in frames.values():
        for row in _of(frame, "sentiment-question").itertuples():
            text = row.instruction.removeprefix("Movie review: ").split("\n")[0]
            assert (highest[text] >= 1) if row.answer == "yes" else (lowest[text] <= -1)


@pytest.mark.parametrize("name", ["next-sentence", "word-choice"])
@pytest.mark.parametrize("longest", [True, False], ids=["longer", "shorter"])
def test_length_tells_nothing(frames: Frames, name: str, longest: bool) -> None:
    for frame in frames.values():
        rows = _of(frame, name)
        lengths = np.array([[len(choice) for choice in choices] for choices in rows["choices"]])
        differ = lengths[:, 0] != lengths[:, 1]
        given = (lengths.argmax(1) if longest else lengths.argmin(1))[differ]
        assert _at_chance(given == _place(rows)[differ])


def test_length_of_a_review_tells_nothing(frames: Frames) -> None:
    train, test = (_of(frames[split], "sentiment-question") for split in ("train", "test"))
    x, y = ([frame["instruction"].str.len().to_numpy()[:, None] / 100] for frame in (train, test))
    model = LogisticRegression().fit(x[0], _place(train))
    assert model.score(y[0], _place(test)) < 0.56


@pytest.mark.parametrize("frequent", [True, False])
def test_word_frequency_tells_nothing(frames: Frames, sdist: Path, frequent: bool) -> None:
    texts = vader.read_corpus(sdist, "movies")["text"]
    counts = Counter(word for text in texts for word in normalise(text).split())
    for frame in frames.values():
        rows = _of(frame, "word-choice")
        often = np.array([[counts[word] for word in choices] for choices in rows["choices"]])
        assert (often.max(1) <= 3 * often.min(1)).mean() > 0.95  # of one band
        differ = often[:, 0] != often[:, 1]
        given = (often.argmax(1) if frequent else often.argmin(1))[differ]
        assert _at_chance(given == _place(rows)[differ])


@pytest.mark.parametrize("name", ["next-sentence", "word-choice"])
def test_choices_alone_tell_nothing(frames: Frames, name: str) -> None:
    """A bag of words that sees what can be chosen, and not the question, learns nothing."""
    train, test = (_of(frames[split], name) for split in ("train", "test"))
    words = CountVectorizer(token_pattern=r"\S+").fit(text for c in train["choices"] for text in c)

    def both(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        right = np.arange(2) == _place(frame)[:, None]
        return words.transform(text for c in frame["choices"] for text in c), right.reshape(-1)

    model = LogisticRegression(max_iter=200).fit(*both(train))
    score = model.decision_function(both(test)[0]).reshape(-1, 2)
    assert _at_chance(score.argmax(1) == _place(test))


def test_no_word_can_be_ruled_out_as_already_there(frames: Frames) -> None:
    for frame in frames.values():
        for row in _of(frame, "word-choice").itertuples():
            question = row.instruction.split("\n")[0]
            words = "".join(c if c.isalpha() else " " for c in question.casefold()).split()
            assert question.count(BLANK) == 1
            assert not set(row.choices) & set(words)


def test_the_archive_is_needed() -> None:
    with pytest.raises(CotoError, match=r"^task snippets: needs the archive vaderSentiment-3.3.2"):
        load_task("snippets")
