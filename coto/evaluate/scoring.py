"""Score a model's outputs on a task with `evaluate`, through metric modules that need no hub."""

from collections.abc import Sequence
from pathlib import Path

import evaluate
import numpy as np

from coto.errors import CotoError
from coto.evaluate.metrics.task_metrics import task_metrics
from coto.tasks.text import TextTask

_MODULE = Path(task_metrics.__file__)
# A regressor is collapsed if its outputs differ by less than this, in units of the labels.
FLAT = 1e-3


def score(
    task: TextTask, predictions: np.ndarray, references: np.ndarray | Sequence[float]
) -> dict[str, float]:
    """Every metric of the task: accuracies and F1 in [0, 1], correlations in [-1, 1].

    Args:
        task: Names the metrics and the number of labels.
        predictions: Logits, shape (n, num_labels); regression outputs, shape (n, 1).
        references: True labels or values, shape (n,).

    Raises:
        CotoError: Shapes that do not fit, or logits that are not finite.
    """
    references = np.asarray(references)
    expected = (len(references), task.num_labels)
    if predictions.shape != expected or not len(references):
        raise CotoError(
            f"task {task.name}: logits of shape {predictions.shape}, expected {expected}"
        )
    broken = int(np.sum(~np.isfinite(predictions).all(axis=1)))
    if broken:
        raise CotoError(
            f"task {task.name}: {broken} of {len(references)} rows have NaN or infinite logits, "
            "expected finite ones; the model has diverged, try a smaller learning rate"
        )
    given = answers(task, predictions)
    return {name: metric(name, given, references) for name in task.metrics}


def answers(task: TextTask, predictions: np.ndarray) -> np.ndarray:
    """Class numbers, or values of a regression, (n,), of logits (n, num_labels)."""
    return predictions[:, 0] if task.is_regression else predictions.argmax(axis=1)


def is_collapsed(predictions: np.ndarray) -> bool:
    """Whether a predictor gives one answer to everything.

    ``predictions`` are logits (n, num_labels), or regression outputs (n, 1).
    """
    if predictions.shape[1] == 1:
        return bool(np.ptp(predictions) < FLAT)
    return len(np.unique(predictions.argmax(axis=1))) == 1


def metric(name: str, answers: np.ndarray, references: np.ndarray) -> float:
    """One metric of answers (n,) against the truth (n,)."""
    module = evaluate.load(str(_MODULE), name, keep_in_memory=True)
    result = module.compute(predictions=answers, references=references)
    assert result is not None  # only other processes of a distributed evaluation get None
    return float(result[name])
