"""Metrics of classification and regression tasks as an `evaluate` module that needs no hub.

The configuration name chooses the metric. `evaluate` reads the imports below with a regular
expression, one module per line, and copies this file elsewhere: it must stand alone.
"""

import datasets
import evaluate
import numpy as np
from scipy import stats


def accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    """Share of equal labels."""
    return float(np.mean(predictions == references))


def f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """F1 of class 1, as GLUE counts it; 0 where class 1 occurs in neither."""
    hits = np.sum((predictions == 1) & (references == 1))
    named = np.sum(predictions == 1) + np.sum(references == 1)
    return float(2 * hits / named) if named else 0.0


def pearson(predictions: np.ndarray, references: np.ndarray) -> float:
    """Pearson correlation; 0 for a constant predictor, where it is undefined."""
    x, y = predictions - predictions.mean(axis=0), references - references.mean(axis=0)
    scale = np.sqrt(np.sum(x**2) * np.sum(y**2))
    return float(np.sum(x * y) / scale) if scale else 0.0


def spearmanr(predictions: np.ndarray, references: np.ndarray) -> float:
    """Spearman correlation: Pearson's of the ranks, ties sharing their mean rank."""
    return pearson(stats.rankdata(predictions), stats.rankdata(references))


def matthews_correlation(predictions: np.ndarray, references: np.ndarray) -> float:
    """Matthews correlation, for any number of classes; 0 for a constant predictor."""
    classes = np.union1d(predictions, references)
    one_hot = [(labels[:, None] == classes).astype(float) for labels in (predictions, references)]
    return pearson(*one_hot)


METRICS = {f.__name__: f for f in (accuracy, f1, matthews_correlation, pearson, spearmanr)}


class TaskMetrics(evaluate.Metric):
    """One metric of :data:`METRICS`, chosen by the configuration name."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            raise KeyError(f"metric {self.config_name!r}: expected one of {', '.join(METRICS)}")
        # float32 would round correlations' inputs.
        is_float = self.config_name in ("pearson", "spearmanr")
        kind = datasets.Value("float64" if is_float else "int64")
        return evaluate.MetricInfo(
            description=METRICS[self.config_name].__doc__ or "",
            citation="",
            inputs_description="predictions and references: labels, or numbers for correlations",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        metric = METRICS[self.config_name]
        return {self.config_name: metric(np.asarray(predictions), np.asarray(references))}
