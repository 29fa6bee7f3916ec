"""The offline text tasks: how their rows are made of the VADER corpora."""

import re

import numpy as np
import pandas as pd

from coto.tasks.splits import by_length, cut, digest, normalise, share, split_of
from coto.tasks.task import Sources
from coto.tasks.text import TextTask, vader

WINDOW = 6  # words in a row that are shuffled
_PLAIN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
MIN_WORDS = 10  # shorter snippets seldom say what their article is about


def _corpora(task: TextTask, sources: Sources) -> list[pd.DataFrame]:
    assert sources.corpora is not None
    return [vader.read_corpus(sources.corpora, corpus) for corpus in task.corpora]


def sentiment(task: TextTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """The sign of the mean human rating, where it is at least ``task.min_rating`` (of 4)."""
    rows = pd.concat(_corpora(task, sources), ignore_index=True)
    rows = rows[rows["rating"].abs() >= task.min_rating]
    return cut(task, rows[["text"]].assign(label=(rows["rating"] > 0).astype("int64")))


def acceptability(task: TextTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Two rows, original (1) and disturbed (0), of each snippet that has a stretch to shuffle."""
    texts = pd.concat([rows["text"] for rows in _corpora(task, sources)], ignore_index=True)
    # A snippet that comes twice gives one couple, whatever its capitals.
    originals = texts.groupby(texts.map(normalise)).min()
    rows = pd.DataFrame({1: originals, 0: originals.map(disturb), "unit": originals}).dropna()
    rows = rows.melt("unit", var_name="label", value_name="text")
    return cut(task, rows.assign(key=rows["unit"]))


def disturb(text: str) -> str | None:
    """Shuffle one stretch of :data:`WINDOW` plain words, the same way every time.

    None if the text has no such stretch or if every order of it reads the same.
    """
    words = text.split()
    starts = [
        start
        for start in range(1, len(words) - WINDOW + 1)
        if all(_PLAIN.fullmatch(word) for word in words[start : start + WINDOW])
    ]
    if not starts:
        return None
    start = starts[int(share("stretch", text) * len(starts))]
    stretch = words[start : start + WINDOW]
    for attempt in range(10):
        keys = [digest("shuffle", text, f"{attempt} {place}") for place in range(WINDOW)]
        moved = [stretch[place] for place in np.argsort(keys, kind="stable")]
        other = [normalise(a) != normalise(b) for a, b in zip(moved, stretch, strict=True)]
        # At least half of the places: two neighbours swapped often read well.
        if 2 * sum(other) >= WINDOW:
            return " ".join([*words[:start], *moved, *words[start + WINDOW :]])
    return None


def same_source(task: TextTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Pairs of neighbouring snippets (1), and as many pairs across articles (0)."""
    parts = []
    for corpus in _corpora(task, sources):
        snippets = vader.snippets_of(corpus, MIN_WORDS)
        seconds = snippets.groupby("unit", sort=False)["text"].shift(-1)
        same = snippets[["text", "unit"]].assign(key=snippets["text"], text_pair=seconds, label=1)
        same = same.dropna(subset="text_pair")
        parts += [same, *(_mismatched(p) for _, p in same.groupby(same["unit"].map(split_of)))]
    return cut(task, pd.concat(parts, ignore_index=True))


def _mismatched(same: pd.DataFrame) -> pd.DataFrame:
    """The same first and second snippets, paired across articles with a second of like length."""
    rows = by_length(same, "text_pair")
    donors = _derange(rows["unit"].to_list())
    return rows.assign(text_pair=rows["text_pair"].iloc[donors].to_list(), label=0)


def _derange(units: list[str]) -> list[int]:
    """A permutation near the identity in which no place gets a donor of its own unit."""
    count = len(units)
    donors = [(place + 1) % count for place in range(count)]
    for place in range(count):
        for step in range(1, count):
            if units[donors[place]] != units[place]:
                break
            swap = (place + step) % count
            if units[donors[swap]] != units[place] and units[donors[place]] != units[swap]:
                donors[place], donors[swap] = donors[swap], donors[place]
    return donors
