"""Train, validation and test parts fixed by what a row says, not by where it stands in a file.

A row's part follows from the sha256 of its unit (a normalised text, or an article), so it never
depends on row order, on a random generator or on other rows; a smaller limit gives a subset of a
larger one.
"""

import hashlib
import logging
import unicodedata
from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from coto.errors import CotoError
from coto.tasks.task import SPLITS
from coto.tasks.text import TextTask

log = logging.getLogger(__name__)

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
    part = rows["text"].map(partial(split_of, test_share=0.0))
    return {split: rows[part == split] for split in ("train", "validation")}


def cut(task: TextTask, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Cut rows into train, validation and test by the hash of their unit.

    Rows have ``text``, ``text_pair`` (pair tasks) and ``label``; ``unit``, what must stay in one
    part, such as an article; ``key``, what orders rows: both are the text if absent. They come back
    by split in the order of their content hash, without duplicates; ``idx`` is their place in it.
    CotoError for empty texts and for labels that the task does not have.
    """
    rows = rows.assign(**{name: rows["text"] for name in ("unit", "key") if name not in rows})
    rows = in_order(checked(task, drop_duplicates(rows)))
    part = rows["unit"].map(split_of)
    frames = {split: rows[part == split].reset_index(drop=True) for split in SPLITS}
    return {split: frame.assign(idx=frame.index) for split, frame in frames.items()}


def checked(task: TextTask, rows: pd.DataFrame) -> pd.DataFrame:
    """Refuse empty texts and labels that the task does not have; labels get the task's type."""
    place = "idx" if "idx" in rows else "text"
    for column in ("text", "text_pair") if task.is_pair else ("text",):
        empty = rows[column].isna() | (rows[column].str.strip() == "")
        if empty.any():
            row = rows[empty].iloc[0]
            raise CotoError(f"task {task.name}: row {row[place]} has an empty {column}")
    labels = pd.to_numeric(rows["label"], errors="coerce")
    if task.is_regression:
        unknown, expected = labels.isna(), "a number"
    else:
        unknown = ~labels.isin(range(task.num_labels))
        expected = ", ".join(f"{i} ({name})" for i, name in enumerate(task.label_names))
    if unknown.any():
        row = rows[unknown].iloc[0]
        raise CotoError(
            f"task {task.name}: row {row[place]} has label {row['label']}, expected {expected}"
        )
    return rows.assign(label=labels.astype("float64" if task.is_regression else "int64"))


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
    texts = rows[[column for column in ("text", "text_pair") if column in rows]]
    own = [digest("row", *row) for row in texts.itertuples(index=False)]
    order = pd.DataFrame({"key": rows["key"].map(partial(digest, "order")), "row": own})
    return rows.loc[order.sort_values(["key", "row"]).index].reset_index(drop=True)


def by_hash(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows by the hash of a text, those of equal texts as they were."""
    return rows.sort_values(column, kind="stable", key=lambda t: t.map(partial(digest, "order")))


def by_length(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows by the length of a text, then by its hash."""
    texts = rows[column]
    order = pd.DataFrame({"length": texts.str.len(), "tie": texts.map(partial(digest, "tie"))})
    return rows.loc[order.sort_values(["length", "tie"]).index]


def check_disjoint(task: str, frames: Mapping[str, pd.DataFrame]) -> None:
    """Refuse a text (for pair tasks: a pair) that is in two splits."""
    seen: dict[str, str] = {}
    for split, frame in frames.items():
        for text in set(_normalised_texts(frame)):
            if (other := seen.setdefault(text, split)) != split:
                raise CotoError(f"task {task}: {text[:60]!r} is in both {other} and {split}")


def _normalised_texts(rows: pd.DataFrame) -> pd.Series:
    texts = rows["text"].map(normalise)
    return texts + "\0" + rows["text_pair"].map(normalise) if "text_pair" in rows else texts


def draw(frame: pd.DataFrame, shots: int, seed: int) -> pd.DataFrame:
    """A class-balanced part of the rows.

    A pure function of rows, `shots` per class and the run's seed: in few-shot learning, seeds
    differ in what they see. Each class is drawn by itself, by its rows' ``idx``, and fewer shots
    are a part of more shots. A class of fewer rows, listed in ``attrs["short_classes"]``, repeats
    some, drawn with replacement, after all of its own; CLIP-LoRA may leave some of its rows out.
    """
    parts: list[pd.DataFrame] = []
    short: list[int] = []
    for label, rows in frame.sort_values("idx", kind="stable").groupby("label", sort=True):
        assert isinstance(label, int | np.integer)
        order = np.random.default_rng((seed, int(label))).permutation(len(rows))
        if len(rows) < shots:
            short.append(int(label))
            again = np.random.default_rng((seed, int(label), 1))
            order = np.append(order, again.choice(len(rows), shots - len(rows)))
        parts.append(rows.iloc[order[:shots]])
    if short:
        log.warning("%d classes have fewer than %d rows: labels %s", len(short), shots, short)
    drawn = pd.concat(parts, ignore_index=True)
    drawn.attrs = {**frame.attrs, "short_classes": short}
    return drawn
