"""Acceptability: a snippet in its own word order against the same snippet with a stretch shuffled.

Both versions hold exactly the same words, so a bag of words tells nothing; punctuation and the
first word stay where they are, so no mark is out of place either. Both are in the same split.
"""

import re
from collections.abc import Callable

import pandas as pd

from coto.tasks.splits import digest, normalise, share
from coto.tasks.text import TextTask

WINDOW = 6  # words in a row that are shuffled
_PLAIN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def build(task: TextTask, read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Two rows, original (1) and disturbed (0), of each snippet that has a stretch to shuffle."""
    texts = pd.concat([read(corpus)["text"] for corpus in task.corpora], ignore_index=True)
    # A snippet that comes twice gives one couple, whatever its capitals.
    originals = [group.min() for _, group in texts.groupby(texts.map(normalise), sort=True)]
    couples = [(text, disturbed) for text in originals if (disturbed := disturb(text))]
    return pd.DataFrame(
        [
            {"text": version, "label": label, "unit": original, "key": original}
            for original, disturbed in couples
            for version, label in ((original, 1), (disturbed, 0))
        ]
    )


def disturb(text: str, window: int = WINDOW) -> str | None:
    """Shuffle one stretch of ``window`` plain words, the same way every time.

    None if the text has no such stretch or if every order of it reads the same.
    """
    words = text.split()
    starts = [
        start
        for start in range(1, len(words) - window + 1)
        if all(_PLAIN.fullmatch(word) for word in words[start : start + window])
    ]
    if not starts:
        return None
    start = starts[int(share("stretch", text) * len(starts))]
    stretch = words[start : start + window]
    for attempt in range(10):
        shuffled = sorted(
            range(window), key=lambda place: digest("shuffle", text, f"{attempt} {place}")
        )
        moved = [stretch[place] for place in shuffled]
        if _differ(moved, stretch):
            return " ".join([*words[:start], *moved, *words[start + window :]])
    return None


def _differ(moved: list[str], stretch: list[str]) -> bool:
    # At least half of the places must hold another word: two neighbours swapped often read well.
    pairs = zip(moved, stretch, strict=True)
    return 2 * sum(normalise(a) != normalise(b) for a, b in pairs) >= len(stretch)
