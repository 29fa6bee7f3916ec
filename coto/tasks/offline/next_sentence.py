"""Next sentence: which of two snippets goes on where the first one ends?

Both come from editorials or product reviews; the wrong one is the right one of another article, of
about the same length. Every snippet is thus as often right as wrong: it tells nothing by itself.
"""

from collections.abc import Callable

import pandas as pd

from coto.tasks.offline.articles import snippets_of
from coto.tasks.splits import digest, split_of

MIN_WORDS, MAX_WORDS = 6, 22
CORPORA = ("news", "products")


def build(read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """One question per snippet that has a next one.

    Args:
        read: Gives a corpus by name, see :func:`coto.tasks.vader.read_corpus`.

    Returns:
        ``instruction``, ``choices`` (the right one first), ``answer`` and ``unit``, the article.
    """
    return pd.concat([_questions(read(corpus)) for corpus in CORPORA], ignore_index=True)


def _questions(corpus: pd.DataFrame) -> pd.DataFrame:
    snippets = snippets_of(corpus, min_words=1)
    article = snippets.groupby("unit", sort=False)
    # A snippet that is in two articles is in neither, and what is after the gap does not follow.
    follows = article["number"].shift(-1) == snippets["number"] + 1
    pairs = snippets.assign(next=article["text"].shift(-1))[follows]
    for column in ("text", "next"):
        pairs = pairs[pairs[column].str.split().map(len).between(MIN_WORDS, MAX_WORDS)]
    parts = [_paired(part) for _, part in pairs.groupby(pairs["unit"].map(split_of))]
    return pd.concat(parts, ignore_index=True)


def _paired(pairs: pd.DataFrame) -> pd.DataFrame:
    """Two neighbours in length, of different articles, lend each other their continuation."""
    order = pd.DataFrame(
        {
            "length": pairs["next"].str.len(),
            "tie": pairs["next"].map(lambda text: digest("tie", text)),
        }
    ).sort_values(["length", "tie"])
    waiting = pairs.loc[order.index, ["text", "next", "unit"]].to_dict("records")
    rows = []
    while waiting:
        first = waiting.pop(0)
        place = next((i for i, row in enumerate(waiting) if row["unit"] != first["unit"]), None)
        if place is None:
            break  # what is left is of one article
        second = waiting.pop(place)
        for here, other in ((first, second), (second, first)):
            rows.append(
                {
                    "instruction": here["text"],
                    "choices": [here["next"], other["next"]],
                    "answer": here["next"],
                    "unit": here["unit"],
                }
            )
    return pd.DataFrame(rows)
