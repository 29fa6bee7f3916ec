"""Snippets of one article, or review, in the order in which they stand in it."""

import pandas as pd

from coto.tasks.splits import digest, normalise


def snippets_of(corpus: pd.DataFrame, min_words: int) -> pd.DataFrame:
    """Snippets in reading order with ``unit``, their article by its content."""
    rows = corpus.assign(
        number=corpus["id"].str.partition("_")[2].astype("int64"),
        article=corpus["source"].astype("int64"),
        normal=corpus["text"].map(normalise),
    ).sort_values(["article", "number"])
    unit = rows.groupby("article")["normal"].agg(lambda texts: digest("article", *texts))
    # A sentence that stands in two articles (headlines, set phrases) belongs to neither.
    rows = rows[~rows["normal"].duplicated(keep=False)]
    rows = rows[rows["text"].map(lambda text: len(text.split())) >= min_words]
    return rows.assign(unit=rows["article"].map(unit))
