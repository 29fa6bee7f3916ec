"""Sentiment as a question with yes and no for answers, of movie review snippets."""

from collections.abc import Callable

import pandas as pd

MAX_WORDS = 22  # a CPU pays for every token
MIN_RATING = 1.0  # mean of people's ratings from -4 to 4; nearer to neutral, people disagree
# Of four wordings, the one by which SmolLM2-135M tells reviews apart best before it is trained.
ASKED = "Movie review: {}\nDid the reviewer like the movie? Answer:"


def build(read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """One question per snippet.

    Args:
        read: Gives a corpus by name, see :func:`coto.tasks.vader.read_corpus`.

    Returns:
        ``instruction``, ``choices``, ``answer`` and ``unit``, the snippet.
    """
    rows = read("movies")
    # A few snippets were rated twice: which copy counts must not depend on the file's order.
    rows = rows.sort_values(["text", "rating"], kind="stable").drop_duplicates("text")
    rows = rows[rows["rating"].abs() >= MIN_RATING]
    rows = rows[rows["text"].str.split().map(len) <= MAX_WORDS]
    return pd.DataFrame(
        {
            "instruction": rows["text"].map(ASKED.format),
            "choices": [["yes", "no"]] * len(rows),
            "answer": (rows["rating"] > 0).map({True: "yes", False: "no"}),
            "unit": rows["text"],
        }
    )
