"""Few-shot parts of a task: as many rows of every class, drawn with a seed."""

import logging

import numpy as np
import pandas as pd

log = logging.getLogger(__name__)

# CLIP-LoRA (after CoOp) looks at no more validation rows per class, however many it trains on.
VALIDATION_SHOTS = 4


def draw(frame: pd.DataFrame, shots: int, seed: int, *, fill: bool = True) -> pd.DataFrame:
    """A class-balanced part of the rows.

    A pure function of rows, `shots` and `seed`. Each class is drawn by itself, and fewer shots are
    a part of more shots. The draw takes rows by their ``idx``, not by where they stand.

    Args:
        frame: rows with ``label`` and ``idx``.
        shots: rows per class.
        seed: of the run: in few-shot learning, seeds differ in what they see.
        fill: whether a class of fewer rows repeats some, drawn with replacement, after all of its
            own. CLIP-LoRA repeats, too, but may leave rows of a short class out.

    Returns:
        Rows by class; ``attrs["short_classes"]`` lists the labels of classes with too few rows.
    """
    parts: list[pd.DataFrame] = []
    short: list[int] = []
    for label, rows in frame.sort_values("idx", kind="stable").groupby("label", sort=True):
        assert isinstance(label, int | np.integer)
        order = np.random.default_rng((seed, int(label))).permutation(len(rows))
        if len(rows) < shots:
            short.append(int(label))
            if fill:
                again = np.random.default_rng((seed, int(label), 1))
                order = np.append(order, again.choice(len(rows), shots - len(rows)))
        parts.append(rows.iloc[order[:shots]])
    if short:
        log.warning("%d classes have fewer than %d rows: labels %s", len(short), shots, short)
    drawn = pd.concat(parts, ignore_index=True)
    drawn.attrs = {**frame.attrs, "short_classes": short}
    return drawn


def draw_validation(frame: pd.DataFrame, shots: int, seed: int) -> pd.DataFrame:
    """Validation rows beside so many training shots: at most four per class, none twice."""
    return draw(frame, min(VALIDATION_SHOTS, shots), seed, fill=False)
