"""Scores of classifiers with `evaluate`, by a metric module that needs no hub; chance levels."""

from collections.abc import Sequence
from pathlib import Path

import evaluate
import numpy as np
import pandas as pd

from coto.errors import CotoError
from coto.models import task_metrics
from coto.models.base import Scores
from coto.tasks.task import Task

# A regressor is collapsed if its outputs differ by less than this, in units of the labels.
FLAT = 1e-3


def scored(
    task: Task,
    rows: pd.DataFrame,
    outputs: np.ndarray,
    targets: np.ndarray,
    width: int,
    what: str = "rows",
    truncated: int = 0,
) -> Scores:
    """Every metric of a task on rows, which are called `what` in an error.

    `outputs` are logits, (items, classes), or a regression's values, (items, 1), and should have
    this `width`; `targets` are class numbers or values, (items,). Raises CotoError if shapes do not
    fit, or outputs are not finite.
    """
    expected = (len(targets), width)
    if outputs.shape != expected or not len(targets):
        raise CotoError(f"task {task.name}: logits of shape {outputs.shape}, expected {expected}")
    if broken := int(np.sum(~np.isfinite(outputs).all(axis=1))):
        raise CotoError(
            f"task {task.name}: {broken} of {len(targets)} {what} have NaN or infinite logits, "
            "expected finite ones; the model has diverged, try a smaller learning rate"
        )
    given = outputs[:, 0] if width == 1 else outputs.argmax(axis=1)
    items = pd.DataFrame({"idx": rows["idx"].to_numpy(), "answer": targets, "prediction": given})
    return Scores(
        task.name,
        {name: _metric(name, given, targets) for name in task.metrics},
        task.headline,
        items.assign(correct=given == targets),
        collapsed=width > 1 and is_collapsed(outputs),
        truncated=truncated,
        loss=(squared_error if width == 1 else cross_entropy)(outputs, targets),
        outputs=outputs,
        targets=targets,
    )


def is_collapsed(outputs: np.ndarray) -> bool:
    """Whether logits (items, classes), or a regression's values (items, 1), are all one answer."""
    if outputs.shape[1] == 1:
        return bool(np.ptp(outputs) < FLAT)
    return len(np.unique(outputs.argmax(axis=1))) == 1


def _metric(name: str, answers: np.ndarray, references: np.ndarray) -> float:
    module = evaluate.load(str(Path(task_metrics.__file__)), name, keep_in_memory=True)
    result = module.compute(predictions=answers, references=references)
    assert result is not None  # only other processes of a distributed evaluation get None
    return float(result[name])


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats of classes (items,); logits are (items, classes)."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)  # no exponential overflows
    right = wide[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(wide).sum(axis=1)) - right))


def squared_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean squared error of a regression's outputs (items, 1) against the values (items,)."""
    return float(np.mean((outputs[:, 0].astype(np.float64) - targets) ** 2))


def chance(task: Task, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, list[Scores]]:
    """Scores of the most frequent answer in training, ``majority``, and of guessing, ``random``.

    Guessing is scored by its expectation, the mean of 1/number of choices, and has no items. Where
    answers are no classes (regression, worked solutions) there is neither.
    """
    found = []
    if task.kind == "language":
        for name, part in test.groupby("set", sort=False):
            if part["choices"].map(len).all():
                found.append(_of_choices(str(name), train, part))
    elif pd.api.types.is_integer_dtype(train["label"]):
        names = class_names(task, test)
        guessed = np.full(len(test), 1 / (len(names) or train["label"].nunique()))
        given = train["label"].mode().iloc[0]
        found.append(_by_chance(task.name, test, test["label"], given, guessed))
    methods = zip(("majority", "random"), zip(*found, strict=True), strict=False)
    return {method: list(scores) for method, scores in methods}


def _of_choices(name: str, train: pd.DataFrame, test: pd.DataFrame) -> tuple[Scores, Scores]:
    """Answers are compared by their place among the choices, as their words may differ.

    Training rows of LLM-Adapters do not say their set: those with the same choices count. Where
    there is none of them, the test part's own most frequent place is given.
    """
    known, place = training_rows_of(name, train, test), places(test)
    given = (place if known.empty else places(known)).mode().iloc[0]
    return _by_chance(name, test, place, given, 1 / test["choices"].map(len).to_numpy())


def training_rows_of(name: str, train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """The training rows of an evaluation set; where they do not say it, those with its choices."""
    known = train[train["set"] == name]
    if known.empty:
        spelled = test["choices"].map("/".join)
        known = train[train["choices"].map("/".join).isin(set(spelled))]
    return known


def class_names(task: Task, rows: pd.DataFrame) -> Sequence[str]:
    """Names of a classification task's classes; empty where nothing says them."""
    names: Sequence[str] = getattr(task, "label_names", rows.attrs.get("class_names", ()))
    return names


def places(rows: pd.DataFrame) -> pd.Series:
    """Where the right answer of each row is among its choices."""
    pairs = zip(rows["choices"], rows["answer"], strict=True)
    return pd.Series([list(c).index(a) for c, a in pairs], index=rows.index, dtype="int64")


def _by_chance(
    name: str, rows: pd.DataFrame, truth: pd.Series, given: int, guessed: np.ndarray
) -> tuple[Scores, Scores]:
    """Scores of one answer to all, and of guesses that are right with these probabilities."""
    items = pd.DataFrame({"idx": rows["idx"], "answer": truth, "prediction": given})
    items["correct"] = items["answer"] == items["prediction"]
    majority = {"accuracy": float(items["correct"].mean())}
    random = Scores(name, {"accuracy": float(guessed.mean())}, "accuracy", items.iloc[:0])
    return Scores(name, majority, "accuracy", items), random
