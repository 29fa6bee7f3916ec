"""Train, validation and test parts fixed by what a row says, not by where it stands in a file.

A row's part follows from the sha256 of its unit (a normalised text, or an article), so it never
depends on row order, on a random generator or on other rows; a smaller limit gives a subset of a
larger one.
"""

import hashlib
import unicodedata
from collections.abc import Mapping

import pandas as pd

from coto.errors import CotoError

SPLITS = ("train", "validation", "test")
# GLUE has its own test part: there only the validation share is cut, from train.
VALIDATION_SHARE = 0.10
TEST_SHARE = 0.25


def normalise(text: str) -> str:
    """Fold case, width and white space: two texts that read the same are the same."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def digest(purpose: str, *parts: str) -> str:
    """Hash of normalised ``parts``, independent between purposes."""
    content = "\0".join((purpose, *(normalise(part) for part in parts)))
    return hashlib.sha256(content.encode()).hexdigest()


def share(purpose: str, *parts: str) -> float:
    """A number in [0, 1) that is fixed by content and evenly spread over texts."""
    return int(digest(purpose, *parts)[:13], 16) / 16**13


def split_of(unit: str, *, test_share: float = TEST_SHARE) -> str:
    """The part that a unit belongs to."""
    position = share("split", unit)
    if position < test_share:
        return "test"
    return "validation" if position < test_share + VALIDATION_SHARE else "train"


def cut_validation(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Cut a validation part out of ``train`` by the hash of each row's first text.

    Rows whose text (or pair) is in ``test`` or came before are dropped from both parts; pairs that
    share their first text stay together.
    """
    rows = drop_duplicates(train)
    rows = rows[~_normalised_texts(rows).isin(set(_normalised_texts(test)))]
    part = rows["text"].map(lambda text: split_of(text, test_share=0.0))
    return {split: rows[part == split] for split in ("train", "validation")}


def drop_duplicates(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep one row per (pair of) normalised text; none where copies disagree about the label."""
    texts = _normalised_texts(rows)
    agree = rows.groupby(texts, sort=False)["label"].transform("nunique") == 1
    # Which of equal rows stays must not depend on their order in the file.
    columns = [column for column in ("text", "text_pair", "idx") if column in rows]
    rows = rows[agree].sort_values(columns, kind="stable")
    return rows[~texts[rows.index].duplicated()]


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by the hash of their ``key``, then by their own; a limit takes the first ones."""
    columns = [column for column in ("text", "text_pair") if column in rows]
    order = pd.DataFrame(
        {
            "key": [digest("order", key) for key in rows["key"]],
            "row": [digest("row", *texts) for texts in rows[columns].itertuples(index=False)],
        },
        index=rows.index,
    ).sort_values(["key", "row"])
    return rows.loc[order.index].reset_index(drop=True)


def check_limits(limits: Mapping[str, int | None] | None) -> dict[str, int | None]:
    """Complete limits per split; refuse unknown splits and sizes below one."""
    limits = dict(limits or {})
    for split, limit in limits.items():
        if split not in SPLITS:
            raise CotoError(f"limits.{split}: unknown split, expected one of {', '.join(SPLITS)}")
        if limit is not None and limit < 1:
            raise CotoError(f"limits.{split}: {limit}, expected at least 1 or null")
    return {split: limits.get(split) for split in SPLITS}


def check_disjoint(task: str, frames: Mapping[str, pd.DataFrame]) -> None:
    """Refuse a text (for pair tasks: a pair) that is in two splits."""
    seen: dict[str, str] = {}
    for split, frame in frames.items():
        for text in set(_normalised_texts(frame)):
            if (other := seen.setdefault(text, split)) != split:
                raise CotoError(f"task {task}: {text[:60]!r} is in both {other} and {split}")


def _normalised_texts(rows: pd.DataFrame) -> pd.Series:
    texts = rows["text"].map(normalise)
    if "text_pair" in rows:
        texts = texts + "\0" + rows["text_pair"].map(normalise)
    return texts
