"""Word choice: which of two words was taken out of a movie review snippet?

Two snippets lend each other their missing word. The two words are of one frequency band and about
equally long, and each is as often right as wrong: neither its frequency nor its length tells.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable
from math import log2
from typing import Any

import pandas as pd

from coto.tasks.splits import normalise, share, split_of

MIN_WORDS, MAX_WORDS = 8, 22
_WORD = re.compile(r"[a-z]{4,}")  # no name, and no mark at it
_WORDS = re.compile(r"[^\W\d_]+")
BLANK = "___"
# Words before the gap that the question ends with, so that the word goes on from them. SmolLM2-135M
# then knows 0.88 of the words before it is trained, and 0.59 if asked for "the word at ___".
REPEATED = 3


def build(read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """One question per snippet of which a word of the right kind can be taken.

    Args:
        read: Gives a corpus by name, see :func:`coto.tasks.vader.read_corpus`.

    Returns:
        ``instruction``, ``choices`` (the right one first), ``answer`` and ``unit``, the snippet.
    """
    texts = read("movies")["text"].drop_duplicates()
    texts = texts[texts.str.split().map(len).between(MIN_WORDS, MAX_WORDS)]
    counts = Counter(word for text in texts for word in normalise(text).split())
    blanked = [found for text in sorted(texts) if (found := _blank(text, counts)) is not None]
    questions = [
        question
        for _, group in pd.DataFrame(blanked).groupby(["split", "band", "length"], sort=True)
        for question in _paired(group.to_dict("records"))
    ]
    return pd.DataFrame(questions)


def _blank(text: str, counts: Counter[str]) -> dict[str, Any] | None:
    """The snippet without one word that is neither rare nor everywhere."""
    words = text.split()
    spoken = _spoken(text)
    places = [
        place
        for place, word in enumerate(words)
        if place and _WORD.fullmatch(word) and 2 <= counts[word] <= 100 and spoken.count(word) == 1
    ]
    if not places:
        return None
    place = places[int(share("blank", text) * len(places))]
    word = words[place]
    return {
        "text": " ".join([*words[:place], BLANK, *words[place + 1 :]]),
        "before": " ".join(words[max(place - REPEATED, 0) : place]),
        "word": word,
        "band": int(log2(counts[word])),
        "length": min(len(word), 9) // 2,
        "split": split_of(text),
        "unit": text,
        "order": share("pair", text),
    }


def _paired(group: list[dict[Hashable, Any]]) -> list[dict[str, Any]]:
    waiting = sorted(group, key=lambda row: row["order"])
    rows = []
    while waiting:
        first = waiting.pop(0)
        place = next(
            (i for i, other in enumerate(waiting) if _can_lend(first, other)),
            None,
        )
        if place is None:
            continue
        second = waiting.pop(place)
        for here, other in ((first, second), (second, first)):
            rows.append(
                {
                    "instruction": f"{here['text']}\nAnswer: {here['before']}",
                    "choices": [here["word"], other["word"]],
                    "answer": here["word"],
                    "unit": here["unit"],
                }
            )
    return rows


def _can_lend(first: dict[Hashable, Any], second: dict[Hashable, Any]) -> bool:
    return (
        first["word"] != second["word"]
        and first["word"] not in _spoken(second["text"])
        and second["word"] not in _spoken(first["text"])
    )


def _spoken(text: str) -> list[str]:
    """Words without the marks at them."""
    return _WORDS.findall(text.casefold())
