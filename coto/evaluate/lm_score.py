"""Scoring a language model on prepared rows through lm-eval, by one or more protocols."""

import io
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any

import lm_eval
import pandas as pd
import yaml
from lm_eval.tasks import TaskManager
from torch import nn

from coto.backbones.causal import Causal
from coto.errors import CotoError
from coto.evaluate.lm import Scorer
from coto.evaluate.lm_items import documents, first_named, number
from coto.workbench.base import Scores

log = logging.getLogger(__name__)

TASKS = Path(__file__).parent / "lm_tasks"
# Protocol -> what its accuracy is called in records.
METRICS = {"ranking": "accuracy", "generate": "generated"}
_OWN_CHOICES = "coto_generate"
_MATH_TOKENS = 512  # LoRA-Pro's


@dataclass(frozen=True)
class Evaluation:
    """How to score.

    Attributes:
        protocols: ``ranking`` of the candidate answers by log-likelihood, ``generate`` with a
            search for an answer in the output; the first gives the headline. Worked solutions
            are always generated, greedily.
        batch_tokens: padded tokens of a batch.
        beams: of generation.
        max_new_tokens: that generation may add to a question with given answers.
        kv_cache: whether KV caches may be used; without them nothing can be generated.
    """

    protocols: tuple[str, ...]
    batch_tokens: int
    beams: int = 4
    max_new_tokens: int = 32
    kv_cache: bool = True

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Evaluation":
        """The job's ``evaluation`` settings."""
        unknown = [name for name in settings["protocols"] if name not in METRICS]
        if unknown:
            raise CotoError(f"protocols = {unknown[0]!r}: expected some of {', '.join(METRICS)}")
        return cls(
            tuple(settings["protocols"]),
            settings["batch_tokens"],
            settings["beams"],
            settings["max_new_tokens"],
        )


def score_rows(
    model: nn.Module, causal: Causal, rows: pd.DataFrame, evaluation: Evaluation
) -> list[Scores]:
    """Scores on every evaluation set among the rows, in their order.

    Args:
        model: the model, with or without an adapter; its parameters' device and the caller's
            autocast decide where and how it computes.
        causal: its tokenizer.
        rows: prepared rows: ``set``, ``instruction``, ``choices``, ``answer``, ``idx``.
        evaluation: how.

    Raises:
        CotoError: if solutions are to be generated without a KV cache.
    """
    return [
        _score_set(model, causal, str(name), part, evaluation)
        for name, part in rows.groupby("set", sort=False)
    ]


def run_lm_eval(
    scorer: Scorer, tasks: list[str], manager: TaskManager, generation: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Results of lm-eval with a record of every item.

    This is what ``lm_eval.simple_evaluate`` does without its seeding of all random generators and
    its report on the machine, for which it runs pip: three seconds a call.
    """
    loaded = manager.load(tasks)
    for task in loaded["tasks"].values():
        if generation is not None and task.get_config("output_type") == "generate_until":
            task.set_config(key="generation_kwargs", value=generation, update=True)
    results = lm_eval.evaluate(scorer, loaded, bootstrap_iters=0, log_samples=True)
    assert results is not None  # only other processes of a distributed evaluation get None
    return results


def _score_set(
    model: nn.Module, causal: Causal, name: str, rows: pd.DataFrame, evaluation: Evaluation
) -> Scores:
    docs = documents(rows)
    solved = not docs["choices"].map(len).any()
    beams, room = (1, _MATH_TOKENS) if solved else (evaluation.beams, evaluation.max_new_tokens)
    room = min(room, causal.max_length // 2)
    if solved and not evaluation.kv_cache:
        raise CotoError(
            f"{name}: items have no choices, expected candidate answers: a sweep ranks them and "
            "generates nothing"
        )
    if solved:
        tasks = {"solution": "coto_math"}
    else:
        answers = {choice for choices in docs["choices"] for choice in choices}
        known = {"ranking": "coto_ranking", "generate": _generation_task(answers)}
        tasks = {protocol: known[protocol] for protocol in evaluation.protocols}
    with quiet():
        scorer = Scorer(model, causal, evaluation.batch_tokens, beams, room, evaluation.kv_cache)
        manager = TaskManager(
            include_path=str(TASKS), include_defaults=False, metadata={"rows": rows, "name": name}
        )
        generation = {"max_gen_toks": room, "num_beams": beams}
        results = run_lm_eval(scorer, list(tasks.values()), manager, generation)
    metrics: dict[str, float] = {}
    loss = nan
    parts = []
    for protocol, task in tasks.items():
        found = {key.partition(",")[0]: value for key, value in results["results"][task].items()}
        if solved:
            metrics |= {metric: float(found[metric]) for metric in ("generated", "original")}
        else:
            accuracy = found["acc" if protocol == "ranking" else "exact_match"]
            metrics[METRICS[protocol]] = float(accuracy)
        samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
        if protocol == "ranking":
            loss = -fmean(_likelihoods(sample)[sample["doc"]["gold"]] for sample in samples)
        given = [_answer(task, sample) for sample in samples]
        parts.append(
            pd.DataFrame(
                {
                    "idx": docs["idx"],
                    "answer": docs["answer"].map(number) if solved else docs["answer"],
                    "prediction": given,
                    "protocol": protocol,
                    "truncated": docs["prompt"].isin(scorer.cut),
                }
            )
        )
        parts[-1]["correct"] = parts[-1]["prediction"] == parts[-1]["answer"]
    truncated = int(parts[0]["truncated"].sum())
    if truncated:
        log.warning("%s: %d of %d prompts are too long for the model", name, truncated, len(docs))
    return Scores(
        name,
        metrics,
        next(iter(metrics)),
        pd.concat(parts, ignore_index=True),
        collapsed=len(docs) > 1 and len(set(_places(parts[0]["prediction"], docs))) == 1,
        truncated=truncated,
        loss=loss,
    )


def _answer(task: str, sample: Mapping[str, Any]) -> str:
    """What the model answered to an item."""
    if task == "coto_ranking":
        found = _likelihoods(sample)
        return sample["doc"]["choices"][max(range(len(found)), key=found.__getitem__)]
    (text,) = sample["filtered_resps"]
    if task == _OWN_CHOICES:
        return first_named(sample["doc"]["choices"], text)
    return number(text) if task == "coto_math" else text


def _likelihoods(sample: Mapping[str, Any]) -> list[float]:
    """Log-likelihoods of an item's candidate answers, in nats."""
    return [likelihood for likelihood, _ in sample["filtered_resps"]]


def _places(given: pd.Series, docs: pd.DataFrame) -> list[int | str]:
    """Where answers are among their items' choices, whose words may differ from item to item."""
    return [
        choices.index(answer) if answer in choices else answer
        for answer, choices in zip(given, docs["choices"], strict=True)
    ]


@cache
def _formats() -> dict[str, re.Pattern[str]]:
    """Tasks of the generating protocol, with the expression that finds an answer."""
    formats = {}
    for path in sorted(TASKS.glob("generate_*.yaml")):
        task = yaml.safe_load(path.read_text())
        expression = task["filter_list"][0]["filter"][0]["regex_pattern"]
        formats[task["task"]] = re.compile(expression)
    return formats


def _generation_task(answers: set[str]) -> str:
    """The task whose expression finds just such answers."""
    for task, expression in _formats().items():
        if all(expression.fullmatch(answer) for answer in answers):
            return task
    return _OWN_CHOICES


@contextmanager
def quiet() -> Iterator[None]:
    """Without lm-eval's progress bars, and its warnings on every call."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
