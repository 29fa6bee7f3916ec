"""Same source: do two snippets come from one article (or review, in a corpus of reviews)?

Every first snippet occurs in one positive and one negative pair, and so does every second one: each
text alone tells nothing. The negative's second snippet is of the same corpus, split and about the
same length, out of another article. Articles never cross splits.
"""

from collections.abc import Callable

import pandas as pd

from coto.tasks.offline.articles import snippets_of
from coto.tasks.splits import digest, split_of
from coto.tasks.text import TextTask

MIN_WORDS = 10  # shorter snippets seldom say what their article is about


def build(task: TextTask, read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Pairs of neighbouring snippets (1), and as many pairs across articles (0)."""
    parts = [_pairs(snippets_of(read(corpus), MIN_WORDS)) for corpus in task.corpora]
    return pd.concat(parts, ignore_index=True)


def _pairs(snippets: pd.DataFrame) -> pd.DataFrame:
    seconds = snippets.groupby("unit", sort=False)["text"].shift(-1)
    same = pd.DataFrame(
        {
            "text": snippets["text"],
            "text_pair": seconds,
            "label": 1,
            "unit": snippets["unit"],
            "key": snippets["text"],
        }
    ).dropna(subset="text_pair")
    other = [_mismatched(part) for _, part in same.groupby(same["unit"].map(split_of))]
    return pd.concat([same, *other], ignore_index=True)


def _mismatched(same: pd.DataFrame) -> pd.DataFrame:
    """The same first and second snippets, paired across articles with a second of like length."""
    length = same["text_pair"].str.len()
    tie = same["text_pair"].map(lambda text: digest("tie", text))
    rows = same.loc[
        pd.DataFrame({"length": length, "tie": tie}).sort_values(["length", "tie"]).index
    ]
    units = rows["unit"].to_list()
    donors = _derange(units)
    seconds = rows["text_pair"].to_list()
    return rows.assign(text_pair=[seconds[donor] for donor in donors], label=0)


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
