"""Binary sentiment: the sign of the mean human rating, near-neutral snippets left out."""

from collections.abc import Callable

import pandas as pd

from coto.tasks.text import TextTask


def build(task: TextTask, read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Rows of one corpus whose absolute mean rating is at least ``task.min_rating`` (of 4)."""
    rows = pd.concat([read(corpus) for corpus in task.corpora], ignore_index=True)
    rows = rows[rows["rating"].abs() >= task.min_rating]
    return pd.DataFrame(
        {
            "text": rows["text"],
            "label": (rows["rating"] > 0).astype("int64"),
            "unit": rows["text"],
            "key": rows["text"],
        }
    )
