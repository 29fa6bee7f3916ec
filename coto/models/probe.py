"""Linear probes: what a frozen backbone knows of a task before any adapter.

Logistic regression on the features that a head reads is the classic measure (Alain, Bengio,
*Understanding intermediate layers using linear classifier probes*, 2016). Adapters that do no
better have taught the backbone nothing.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from coto.models.base import Scores, TaskModel
from coto.models.scoring import class_names, places, scored, training_rows_of
from coto.tasks.task import Task

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse regularisation strengths that are tried, on standardised features."""
_NEVER = -1e4
"""Log-probability of a class that training did not have."""


def probe(
    model: TaskModel,
    task: Task,
    draws: Sequence[pd.DataFrame],
    validation: pd.DataFrame,
    test: pd.DataFrame,
) -> list[Scores]:
    """Scores of the probe on every evaluation set of the test rows.

    Several `draws` of training rows give the mean of their scores, with the items of the first. The
    regularisation is the one that does best on the validation rows. There are no scores where
    answers are no classes (regression, worked solutions), where a set has no training rows, or
    where the model's family has no features.
    """
    found: dict[str, list[Scores]] = {}
    for train in draws:
        for name, parts in _sets(task, train, validation, test):
            scores = _of_set(model, task, name, *parts)
            if scores is not None:
                found.setdefault(name, []).append(scores)
    return [_mean(several) for several in found.values()]


def fitted(features: np.ndarray, labels: np.ndarray, strength: float) -> Pipeline:
    """Logistic regression on standardised features (items, dimensions) and labels (items,)."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pipeline.fit(features, labels)


_Part = tuple[pd.DataFrame, np.ndarray]
"""Rows, and their class numbers."""


def _sets(
    task: Task, train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame
) -> Iterator[tuple[str, tuple[_Part, _Part, _Part]]]:
    """Each evaluation set with its rows of the three parts."""
    if task.kind != "language":
        if pd.api.types.is_integer_dtype(train["label"]):
            parts = (train, validation, test)
            a, b, c = ((rows, rows["label"].to_numpy(np.int64)) for rows in parts)
            yield task.name, (a, b, c)
        return
    for name, rows in test.groupby("set", sort=False):
        if rows["choices"].map(lambda choices: choices is not None and len(choices)).all():
            known = [training_rows_of(str(name), part, rows) for part in (train, validation)]
            a, b, c = ((part, places(part).to_numpy()) for part in (*known, rows))
            yield str(name), (a, b, c)


def _of_set(
    model: TaskModel, task: Task, name: str, train: _Part, validation: _Part, test: _Part
) -> Scores | None:
    if len(np.unique(train[1])) < 2:
        return None
    inputs = [model.features(task, rows) if len(rows) else None for rows, _ in (train, test)]
    if inputs[0] is None or inputs[1] is None:
        return None
    best = fitted(inputs[0], train[1], STRENGTHS[0])
    if len(validation[0]):
        seen = model.features(task, validation[0])
        tried = [fitted(inputs[0], train[1], strength) for strength in STRENGTHS]
        best = max(tried, key=lambda one: one.score(seen, validation[1]))  # the strongest of equals
    known = best.predict_log_proba(inputs[1])
    width = max(len(class_names(task, test[0])), *(part[1].max() + 1 for part in (train, test)))
    outputs = np.full((len(known), width), _NEVER)
    outputs[:, best.classes_] = np.maximum(known, _NEVER)
    if task.kind != "language":
        return scored(task, test[0], outputs, test[1], width)
    items = pd.DataFrame({"idx": test[0]["idx"].to_numpy(), "answer": test[1]})
    items = items.assign(prediction=outputs.argmax(axis=1))
    items["correct"] = items["answer"] == items["prediction"]
    return Scores(name, {"accuracy": float(items["correct"].mean())}, "accuracy", items)


def _mean(several: Sequence[Scores]) -> Scores:
    names = several[0].metrics
    metrics = {name: fmean(one.metrics[name] for one in several) for name in names}
    return replace(several[0], metrics=metrics)
