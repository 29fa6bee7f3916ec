"""Prepared rows as documents of lm-eval tasks, and reading numbers out of worked solutions.

The task files in :mod:`coto.evaluate.lm_tasks` name these functions.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset

from coto.errors import CotoError
from coto.tasks import prompts

_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\$?\.\d+")
# What announces the answer of a worked solution: GSM8K's mark, MetaMathQA's closing sentence.
_MARKS = re.compile(r"####|[Tt]he answer is:?")
_ORIGINAL = re.compile(r"####\s*(\d+)")


def documents(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one evaluation set as documents.

    Returns:
        ``idx``, ``answer``, ``prompt``, ``choices``; ``candidates``, what the model would say for
        each choice, and ``gold``, the index of the right one.

    Raises:
        CotoError: if an instruction is empty, or an answer is not among its choices.
    """
    documents = []
    for row in rows.to_dict("records"):
        choices = [] if row["choices"] is None else [str(choice) for choice in row["choices"]]
        where = f"{row['set']}, item {row['idx']}"
        if not row["instruction"].strip():
            raise CotoError(f"{where}: instruction is empty, expected a question")
        if choices and row["answer"] not in choices:
            raise CotoError(
                f"{where}: answer = {row['answer']!r}: expected one of {', '.join(choices)}"
            )
        documents.append(
            {
                "idx": row["idx"],
                "answer": row["answer"],
                "prompt": prompts.prompt(row["instruction"], row["set"]),
                "choices": choices,
                "candidates": [prompts.target(choice, row["set"]) for choice in choices],
                "gold": choices.index(row["answer"]) if choices else -1,
            }
        )
    return pd.DataFrame(documents)


def read(rows: str | pd.DataFrame, name: str | None = None, **_: Any) -> dict[str, Dataset]:
    """Data of an lm-eval task: ``custom_dataset`` of the task files.

    Args:
        rows: a parquet file of prepared rows, or its content.
        name: the evaluation set; may be left out if the rows are of one only.

    Raises:
        CotoError: if there are no such rows.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.read_parquet(Path(rows))
    names = list(frame["set"].unique())
    if name is None and len(names) == 1:
        (name,) = names
    if name not in names:
        raise CotoError(f"name = {name!r}: expected an evaluation set of the rows, {names}")
    return {"test": Dataset.from_pandas(documents(frame[frame["set"] == name]))}


def first_named(choices: Sequence[str], text: str) -> str:
    """The choice that a text names first, as whole words; none is an empty string."""
    longest_first = sorted(choices, key=len, reverse=True)
    either = "|".join(re.escape(choice) for choice in longest_first)
    found = re.search(rf"(?<!\w)(?:{either})(?!\w)", text)
    return found.group() if found else ""


def choice_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether a generated text names the right one of an item's own choices first."""
    (text,) = results
    return {"exact_match": float(first_named(doc["choices"], text) == doc["answer"])}


def number(text: str) -> str:
    """The final number of a worked solution: ``1,080.50`` is ``1080.5``; none is an empty string.

    It is the first one after the last mark of an answer, or else the last one of the text.
    """
    marks = list(_MARKS.finditer(text))
    after = _NUMBER.search(text, marks[-1].end()) if marks else None
    found = [after.group()] if after else _NUMBER.findall(text)
    if not found:
        return ""
    value = Decimal(found[-1].replace(",", "").replace("$", "")).normalize()
    return f"{value:f}"


def original_number(text: str) -> str:
    """The final number as LoRA-Pro's evaluation reads it; none is an empty string."""
    found = _ORIGINAL.search(text)
    return found.group(1) if found else ""


def math_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether a generated solution ends in the right number, as both readings have it."""
    (text,) = results
    truth, truth_original = number(doc["answer"]), original_number(doc["answer"])
    return {
        "generated": float(number(text) == truth != ""),
        "original": float(original_number(text) == truth_original != ""),
    }
