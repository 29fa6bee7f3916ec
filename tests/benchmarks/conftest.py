"""Benchmarks at toy size."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.common.harness import Bench
from coto import device
from coto.config import paths
from coto.settings import Model

CPU = device.resolve("cpu", "fp32")
SMALL_BERT = {"layers": 3, "width": 32, "heads": 2, "mlp": 64, "vocabulary": 100}


def bench_of(settings: Model, folder: Path, rounds: int = 2) -> Bench:
    """What a benchmark is run with in a test."""
    return Bench(settings, CPU, rounds, folder)


def leave_texts(folder: Path, task: str = "movies") -> None:
    """Leave rows of a text task where benchmarks look before they fetch the corpora."""
    words = ["fine", "dull", "great", "poor", "superb", "weak", "lovely", "bad"]
    for split in ("train", "validation", "test"):
        texts = [f"a {words[i % 8]} film {'indeed ' * (i % 5)}no {i}" for i in range(16)]
        rows = pd.DataFrame({"text": texts, "label": [i % 2 for i in range(16)], "idx": range(16)})
        path = folder / paths.data("glue", task, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(path)


@pytest.fixture(autouse=True)
def _no_wait_for_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
