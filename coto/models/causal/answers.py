"""Scoring a language model on prepared rows through lm-eval; ``lm_tasks`` names functions of it."""

import logging
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import yaml
from datasets import Dataset
from torch import nn

from coto.errors import CotoError
from coto.models.base import Scores
from coto.models.causal.harness import Scorer, quiet, run_lm_eval
from coto.models.causal.loading import Causal
from coto.models.causal.ranking import TASK, Ranking
from coto.models.fitting import left_out
from coto.models.settings import Evaluation
from coto.tasks.language import prompt, target

log = logging.getLogger(__name__)

TASKS = Path(__file__).parent / "lm_tasks"
# Protocol that generates -> metrics in records, and what lm-eval calls them.
METRICS = {
    "generate": {"generated": "exact_match"},
    "solution": {"generated": "generated", "original": "original"},
}
_OWN_CHOICES = "coto_generate"
_MATH_TOKENS = 512  # LoRA-Pro's
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\$?\.\d+")
# What announces the answer of a worked solution: GSM8K's mark, MetaMathQA's closing sentence.
_MARKS = re.compile(r"####|[Tt]he answer is:?")
_ORIGINAL = re.compile(r"####\s*(\d+)")


def score_rows(
    model: nn.Module,
    causal: Causal,
    rows: pd.DataFrame,
    evaluation: Evaluation,
    kv_cache: bool = True,
) -> list[Scores]:
    """Scores on every evaluation set among the rows, in their order (:class:`Questions`)."""
    return [one.score(model) for one in questions(causal, rows, evaluation, kv_cache)]


def questions(
    causal: Causal, rows: pd.DataFrame, evaluation: Evaluation, kv_cache: bool = True
) -> "list[Questions]":
    """The evaluation sets among the rows, in their order, ready to be asked."""
    return [
        Questions(causal, str(name), part, evaluation, kv_cache, left_out(str(name), rows))
        for name, part in rows.groupby("set", sort=False)
    ]


class Questions:
    """An evaluation set, with all of its scoring that does not depend on weights.

    It is scored by each protocol in turn: ``ranking`` of the candidate answers by log-likelihood,
    ``generate`` with a search for an answer in the output; the first one gives the headline. Worked
    solutions are always generated, greedily; CotoError without `kv_cache`. The device of the
    model's parameters and the caller's autocast decide where and how it computes.
    """

    def __init__(
        self,
        causal: Causal,
        name: str,
        rows: pd.DataFrame,
        evaluation: Evaluation,
        kv_cache: bool,
        longer: int = 0,
    ) -> None:
        self._causal, self._name, self._rows = causal, name, rows
        self._batch_tokens, self._left_out = evaluation.batch_tokens, longer
        self._docs = documents(rows)
        choices = self._docs["choices"]
        self._solved = not choices.map(len).any()
        if self._solved:
            if not kv_cache:
                reason = "expected candidate answers: a sweep ranks them and generates nothing"
                raise CotoError(f"{name}: items have no choices, {reason}")
            self._tasks = {"solution": "coto_math"}
        else:
            answers = {choice for own in choices for choice in own}
            known = {"ranking": TASK, "generate": _generation_task(answers)}
            self._tasks = {protocol: known[protocol] for protocol in evaluation.protocols}
        beams, room = evaluation.beams, evaluation.max_new_tokens
        self._beams, room = (1, _MATH_TOKENS) if self._solved else (beams, room)
        self._room = min(room, causal.max_length // 2)
        self._ranking: Ranking | None = None
        if "ranking" in self._tasks:
            with quiet():
                size = self._batch_tokens
                self._ranking = Ranking(causal, rows, name, TASKS, size, kv_cache)

    def score(self, model: nn.Module) -> Scores:
        """Scores with the weights that a model has now: the language model or a PEFT model."""
        docs, metrics, loss, parts = self._docs, dict[str, float](), nan, []
        for protocol, task in self._tasks.items():
            if protocol == "ranking":
                assert self._ranking is not None
                found, values = self._ranking.score(model)
                best = [int(np.argmax(one)) for one in values]
                given = [own[i] for own, i in zip(docs["choices"], best, strict=True)]
                gold = zip(values, docs["gold"], strict=True)
                loss, cut = -fmean(one[right] for one, right in gold), self._ranking.cut
            else:
                found, given, cut = self._generated(model, protocol, task)
            metrics |= found
            items = pd.DataFrame(
                {
                    "idx": docs["idx"],
                    "answer": docs["answer"].map(number) if self._solved else docs["answer"],
                    "prediction": given,
                    "protocol": protocol,
                    "truncated": docs["prompt"].isin(cut),
                }
            )
            parts.append(items.assign(correct=items["prediction"] == items["answer"]))
        # Where answers are among their items' choices, whose words may differ from item to item.
        pairs = zip(parts[0]["prediction"], docs["choices"], strict=True)
        places = {own.index(answer) if answer in own else answer for answer, own in pairs}
        truncated = int(parts[0]["truncated"].sum())
        if truncated:
            what = "%s: %d of %d prompts are too long for the model"
            log.warning(what, self._name, truncated, len(docs))
        return Scores(
            self._name,
            metrics,
            next(iter(metrics)),
            pd.concat(parts, ignore_index=True),
            collapsed=len(docs) > 1 and len(places) == 1,
            truncated=truncated,
            left_out=self._left_out,
            loss=loss,
        )

    def _generated(
        self, model: nn.Module, protocol: str, task: str
    ) -> tuple[dict[str, float], list[str], set[str]]:
        """Metrics, answers, and the prompts that were cut, of a protocol that generates."""
        with quiet():
            scorer = Scorer(model, self._causal, self._batch_tokens, self._beams, self._room)
            generation = {"max_gen_toks": self._room, "num_beams": self._beams}
            data = {"rows": self._rows, "name": self._name}
            results, samples = run_lm_eval(scorer, [task], TASKS, generation, data)[task]
        metrics = {name: float(results[own]) for name, own in METRICS[protocol].items()}
        return metrics, [_answer(task, sample) for sample in samples], scorer.cut


def _answer(task: str, sample: dict[str, Any]) -> str:
    """What the model answered to an item by what it wrote."""
    (text,) = sample["filtered_resps"]
    if task == _OWN_CHOICES:
        return first_named(sample["doc"]["choices"], text)
    return number(text) if task == "coto_math" else text


@cache
def _generation_tasks() -> dict[str, str]:
    """Tasks of the generating protocol, with the expression that finds an answer."""
    tasks = (yaml.safe_load(path.read_text()) for path in sorted(TASKS.glob("generate_*.yaml")))
    return {task["task"]: task["filter_list"][0]["filter"][0]["regex_pattern"] for task in tasks}


def _generation_task(answers: set[str]) -> str:
    """The task whose expression finds just such answers."""
    for task, expression in _generation_tasks().items():
        if all(re.fullmatch(expression, answer) for answer in answers):
            return task
    return _OWN_CHOICES


def documents(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one evaluation set as documents: ``idx``, ``answer``, ``prompt``, ``choices``;
    ``candidates``, what the model would say for each choice, and ``gold``, the right one's index.
    Raises CotoError if an instruction is empty, or an answer is not among its choices.
    """
    documents = []
    for row in rows.to_dict("records"):
        choices = [] if row["choices"] is None else [str(choice) for choice in row["choices"]]
        where = f"{row['set']}, item {row['idx']}"
        if not row["instruction"].strip():
            raise CotoError(f"{where}: instruction is empty, expected a question")
        if choices and row["answer"] not in choices:
            known = ", ".join(choices)
            raise CotoError(f"{where}: answer = {row['answer']!r}: expected one of {known}")
        documents.append(
            {
                "idx": row["idx"],
                "answer": row["answer"],
                "prompt": prompt(row["instruction"], row["set"]),
                "choices": choices,
                "candidates": [target(choice, row["set"]) for choice in choices],
                "gold": choices.index(row["answer"]) if choices else -1,
            }
        )
    return pd.DataFrame(documents)


def read_rows(rows: str | pd.DataFrame, name: str | None = None, **_: Any) -> dict[str, Dataset]:
    """Data of an lm-eval task, from prepared rows or their parquet file; `name` is the evaluation
    set, which may be left out if there is one only. Task files call it by ``custom_dataset``."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.read_parquet(Path(rows))
    names = list(frame["set"].unique())
    if name is None and len(names) == 1:
        (name,) = names
    if name not in names:
        raise CotoError(f"name = {name!r}: expected an evaluation set of the rows, {names}")
    return {"test": Dataset.from_pandas(documents(frame[frame["set"] == name]))}


def first_named(choices: Sequence[str], text: str) -> str:
    """The choice that a text names first, as whole words; none is an empty string."""
    either = "|".join(map(re.escape, sorted(choices, key=len, reverse=True)))
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
    readings = {"generated": number, "original": original_number}
    return {m: float(read(text) == read(doc["answer"]) != "") for m, read in readings.items()}
