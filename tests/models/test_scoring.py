from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from coto.errors import CotoError
from coto.models.scoring import is_collapsed, scored
from coto.tasks.registry import TASKS
from coto.tasks.text import TextTask

CLASSIFICATION = {
    "accuracy": metrics.accuracy_score,
    "f1": metrics.f1_score,
    "matthews_correlation": lambda true, said: metrics.matthews_corrcoef(true, said),
}


def score(task: TextTask, outputs: np.ndarray, truth: Any) -> Mapping[str, float]:
    truth = np.asarray(truth, dtype=float if task.is_regression else int)
    rows = pd.DataFrame({"idx": range(len(truth))})
    return scored(task, rows, outputs, truth, task.num_labels).metrics


def _logits(answers: np.ndarray, classes: int) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=(len(answers), classes))
    noise[np.arange(len(answers)), answers] = noise.max(axis=1) + 1
    return noise


@pytest.mark.parametrize("name", ["movies", "cola", "mrpc", "acceptability", "same-source", "mnli"])
def test_classification_equals_scikit_learn(name: str) -> None:
    task = TASKS[name]
    generator = np.random.default_rng(0)
    true = generator.integers(task.num_labels, size=500)
    said = np.where(
        generator.random(500) < 0.7, true, generator.integers(task.num_labels, size=500)
    )
    scores = score(task, _logits(said, task.num_labels), true)
    assert list(scores) == list(task.metrics)
    for metric, value in scores.items():
        assert value == pytest.approx(CLASSIFICATION[metric](true, said), abs=1e-12)


def test_matthews_correlation_of_many_classes_equals_scikit_learn() -> None:
    from coto.models.task_metrics import matthews_correlation

    generator = np.random.default_rng(2)
    true, said = generator.integers(4, size=(2, 300))
    expected = metrics.matthews_corrcoef(true, said)
    assert matthews_correlation(said, true) == pytest.approx(expected, abs=1e-12)


def test_regression_equals_scipy_in_double_precision_and_with_ties() -> None:
    generator = np.random.default_rng(0)
    true = np.round(generator.uniform(0, 5, size=400), 1)  # many ties
    # A large offset: single precision would keep four digits of the signal at best.
    said = 1e4 + 0.01 * true + generator.normal(0, 0.01, size=400)
    scores = score(TASKS["stsb"], said[:, None], true)
    assert list(scores) == ["pearson", "spearmanr"]
    assert scores["pearson"] == pytest.approx(stats.pearsonr(said, true).statistic, abs=1e-9)
    assert scores["spearmanr"] == pytest.approx(stats.spearmanr(said, true).statistic, abs=1e-12)


def test_constant_predictors_score_zero_not_nan() -> None:
    ones = _logits(np.ones(10, dtype=int), 2)
    zeros = _logits(np.zeros(10, dtype=int), 2)
    true = np.array([0, 1] * 5)
    assert score(TASKS["cola"], ones, true) == {"accuracy": 0.5, "matthews_correlation": 0.0}
    assert score(TASKS["mrpc"], zeros, true) == {"accuracy": 0.5, "f1": 0.0}
    assert score(TASKS["mrpc"], zeros, np.zeros(10)) == {"accuracy": 1.0, "f1": 0.0}
    flat = score(TASKS["stsb"], np.full((10, 1), 2.5), np.arange(10.0))
    assert flat == {"pearson": 0.0, "spearmanr": 0.0}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_logits_are_refused(value: float) -> None:
    logits = np.zeros((4, 2))
    logits[1, 0] = value
    with pytest.raises(CotoError, match="task movies: 1 of 4 rows have NaN or infinite logits"):
        score(TASKS["movies"], logits, np.zeros(4))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(CotoError, match=r"shape \(4, 3\), expected \(4, 2\)"):
        score(TASKS["movies"], np.zeros((4, 3)), np.zeros(4))
    with pytest.raises(CotoError, match=r"shape \(5, 2\), expected \(4, 2\)"):
        score(TASKS["movies"], np.zeros((5, 2)), np.zeros(4))
    with pytest.raises(CotoError, match=r"shape \(4,\), expected \(4, 1\)"):
        score(TASKS["stsb"], np.zeros(4), np.zeros(4))
    with pytest.raises(CotoError, match=r"shape \(0, 2\)"):
        score(TASKS["movies"], np.zeros((0, 2)), [])


def test_collapse() -> None:
    answers = np.zeros(50, dtype=int)
    assert is_collapsed(_logits(answers, 2))
    answers[7] = 1
    assert not is_collapsed(_logits(answers, 2))
    assert is_collapsed(np.full((50, 1), 2.5) + np.random.default_rng(0).uniform(0, 1e-4, (50, 1)))
    assert not is_collapsed(np.random.default_rng(0).uniform(0, 5, (50, 1)))
