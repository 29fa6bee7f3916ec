"""Rows that a model can take whole: where no sequence may be cut, longer rows are left out.

They are left out before a limit takes the first rows, so that every job that reads a part has the
same rows of it: training, every measurement, and what needs no model at all.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from transformers import AutoTokenizer

from coto.errors import CotoError
from coto.models.base import first_line, locate
from coto.models.settings import Backbone
from coto.tasks.language import prompt, target
from coto.tasks.task import Task

_LEFT_OUT = "left_out"
Frames = dict[str, pd.DataFrame]


def left_out(name: str, rows: pd.DataFrame) -> int:
    """How many rows of a task, or evaluation set, were left out of a part that was read back."""
    return int(rows.attrs.get(_LEFT_OUT, {}).get(name, 0))


def fitting(
    task: Task,
    frames: Mapping[str, pd.DataFrame],
    backbone: Backbone,
    max_length: int,
    limits: Mapping[str, int | None],
) -> Frames:
    """All rows of each part of at most `max_length` tokens, and of those the first so many.

    A limit of ``validation`` and ``test`` is per evaluation set, as of tasks. An item of a language
    model is as long as its prompt with its longest candidate answer. How many longer rows came
    before the last one used goes with the frame, for :func:`left_out`. Raises CotoError if no row
    of a part fits, or there is no tokenizer.
    """
    where, source = locate(backbone)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **source)
    except (OSError, ValueError) as error:
        raise CotoError(f"backbone = {where!r}: no tokenizer ({first_line(error)})") from error
    return {
        split: _fitting(task, rows, _tokens(task, rows, tokenizer), max_length, split, limits)
        for split, rows in frames.items()
    }


def _fitting(
    task: Task,
    rows: pd.DataFrame,
    tokens: np.ndarray,
    max_length: int,
    split: str,
    limits: Mapping[str, int | None],
) -> pd.DataFrame:
    by_set = "set" in rows and split != "train"
    names = rows["set"] if by_set else pd.Series(task.name, index=rows.index)
    kept: list[np.ndarray] = []
    longer: dict[str, int] = {}
    for name in names.unique():
        places = np.flatnonzero(names == name)
        fit = places[tokens[places] <= max_length]
        if not len(fit):
            problem = f"no row of {split} has at most max_length = {max_length} tokens"
            raise CotoError(f"task {task.name}: {problem}, the shortest has {tokens[places].min()}")
        used = fit[: limits[split]]
        kept.append(used)
        # Without a limit, or where there are fewer rows than it, all longer ones are left out.
        end = used[-1] if len(used) == limits[split] else places[-1]
        longer[str(name)] = int(np.sum(tokens[places[places <= end]] > max_length))
    result = rows.iloc[np.concatenate(kept)].reset_index(drop=True)
    result.attrs = {**rows.attrs, _LEFT_OUT: longer}
    return result


def _tokens(task: Task, rows: pd.DataFrame, tokenizer: Any) -> np.ndarray:
    """Tokens of every row, (rows,)."""
    encode = partial(tokenizer, truncation=False, verbose=False)
    if task.kind != "language":
        texts = [rows[column].tolist() for column in ("text", "text_pair") if column in rows]
        return np.asarray([len(ids) for ids in encode(*texts)["input_ids"]])
    items = rows[["set", "instruction", "choices", "answer"]].itertuples(index=False, name=None)
    said = [
        (place, prompt(instruction, name) + target(text, name))
        for place, (name, instruction, choices, answer) in enumerate(items)
        for text in (answer, *(choices if choices is not None else ()))
    ]
    longest = np.zeros(len(rows), dtype=int)
    ids = encode([text for _, text in said])["input_ids"]
    np.maximum.at(longest, [place for place, _ in said], list(map(len, ids)))
    return longest
