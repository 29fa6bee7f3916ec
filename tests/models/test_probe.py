"""Linear probes: against scikit-learn by hand, and features of every family."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from coto import device
from coto.models.base import load_model
from coto.models.probe import STRENGTHS, probe
from coto.tasks.registry import TASKS
from tests.measurements.conftest import plan_of


def rows_of(seed: int, count: int, spread: float = 1.0) -> pd.DataFrame:
    """Rows of a task of two classes whose features, seven numbers, tell them apart badly."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=count)
    features = rng.normal(size=(count, 7)) * [1, 10, 0.1, 1, 1, 5, 1] * spread
    features[:, 1] += 10 * labels
    return pd.DataFrame({"idx": range(count), "label": labels, "x": list(features)})


class Reader:
    """Reads features out of the rows."""

    def features(self, task: Any, rows: pd.DataFrame) -> np.ndarray:
        return np.stack(rows["x"].to_list())


def by_hand(train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame) -> float:
    """The probe without pipelines: standardised by training rows, the strength by validation."""
    known = [np.stack(part["x"].to_list()) for part in (train, validation, test)]
    mean, sd = known[0].mean(0), known[0].std(0)
    x, v, t = ((part - mean) / sd for part in known)
    models = [LogisticRegression(C=c, max_iter=300).fit(x, train["label"]) for c in STRENGTHS]
    scores = [np.mean(model.predict(v) == validation["label"]) for model in models]
    best = models[int(np.argmax(scores))]
    return float(np.mean(best.predict(t) == test["label"]))


def test_the_probe_is_logistic_regression_with_its_strength_chosen_on_validation() -> None:
    train, validation, test = rows_of(0, 60), rows_of(1, 80), rows_of(2, 90)
    (scores,) = probe(Reader(), TASKS["movies"], [train], validation, test)  # type: ignore[arg-type]
    assert scores.task == "movies"
    expected = by_hand(train, validation, test)
    assert 0.55 < expected < 0.95
    assert scores.metrics["accuracy"] == pytest.approx(expected)
    assert scores.items["correct"].mean() == pytest.approx(expected)


def test_draws_of_shots_are_averaged() -> None:
    draws, validation, test = [rows_of(s, 20) for s in (3, 4, 5)], rows_of(1, 80), rows_of(2, 90)
    (scores,) = probe(Reader(), TASKS["movies"], draws, validation, test)  # type: ignore[arg-type]
    expected = np.mean([by_hand(draw, validation, test) for draw in draws])
    assert scores.metrics["accuracy"] == pytest.approx(expected)


def test_language_tasks_are_probed_by_the_place_of_the_answer() -> None:
    parts = []
    for seed, count in ((0, 60), (1, 80), (2, 90)):
        rows = rows_of(seed, count)
        choices = [["yes", "no"]] * count
        answers = [["yes", "no"][label] for label in rows["label"]]
        parts.append(rows.assign(set="word-choice", choices=choices, answer=answers))
    train, validation, test = parts
    (scores,) = probe(Reader(), TASKS["snippets"], [train], validation, test)  # type: ignore[arg-type]
    assert scores.task == "word-choice"
    assert scores.metrics["accuracy"] == pytest.approx(by_hand(train, validation, test))


def test_what_cannot_be_probed_has_no_scores() -> None:
    train, validation, test = rows_of(0, 60), rows_of(1, 80), rows_of(2, 90)
    parts = [part.assign(label=part["label"] / 2) for part in (train, validation, test)]
    regression = SimpleNamespace(kind="text", name="similarity")
    assert probe(Reader(), regression, [parts[0]], *parts[1:]) == []  # type: ignore[arg-type]
    one = train.assign(label=1)
    assert probe(Reader(), TASKS["movies"], [one], validation, test) == []  # type: ignore[arg-type]
    bare = SimpleNamespace(features=lambda task, rows: None)
    assert probe(bare, TASKS["movies"], [train], validation, test) == []  # type: ignore[arg-type]


def test_features_of_an_encoder_are_what_its_head_reads() -> None:
    settings = plan_of().loading("glue", "movies")
    model = load_model(settings, device.resolve("cpu", "fp32"))
    texts = ["a fine film", "dull", "one of the better films of a poor year, " * 3]
    rows = pd.DataFrame({"idx": range(3), "text": texts, "label": [1, 0, 1]})
    features = torch.from_numpy(np.asarray(model.features(TASKS["movies"], rows)))
    (scores,) = model.score(model.model, TASKS["movies"], rows)
    with torch.inference_mode():
        logits = model.model.get_submodule(model.heads[-1])(features)
    np.testing.assert_allclose(logits.numpy(), scores.outputs, atol=1e-5)
