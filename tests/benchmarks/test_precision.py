import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.precision import Settings, equivalence, run
from coto.errors import CotoError
from tests.benchmarks.conftest import bench_of


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"),
    [
        (0.0, 0.3, "equal"),
        (0.0, 4.0, "inconclusive"),
        (3.0, 0.3, "not equal"),
        (0.9, 0.6, "inconclusive"),
    ],
)
def test_verdicts(shift: float, spread: float, verdict: str) -> None:
    noise = np.array([-1.0, 0.5, 0.2, 0.8, -0.5])
    found = equivalence((shift + spread * noise).tolist(), margin=1.0)
    assert found.verdict == verdict
    assert found.low < found.mean < found.high


def test_unequal_scores_are_called_equal_at_most_as_often_as_the_level_says() -> None:
    draw = np.random.default_rng(0)
    runs = draw.normal(1.0, 0.5, size=(1000, 6))  # exactly at the margin
    wrong = np.mean([equivalence(run.tolist(), margin=1.0).verdict == "equal" for run in runs])
    assert 0.03 < wrong < 0.07


def test_differences_that_are_all_one_number_are_refused() -> None:
    with pytest.raises(ValueError, match="two different ones"):
        equivalence([0.5, 0.5, 0.5], margin=1.0)


def leave_runs(folder: Path, seeds: int, values: dict[str, list[float]]) -> str:
    for task, scores in values.items():
        for seed in range(seeds):
            row = {
                **{"suite": "glue", "trained_on": task, "task": task, "adapter": "lora"},
                **{"strategy": "coto", "lr": 0.004, "seed": seed, "split": "test"},
                **{"metric": "accuracy", "value": scores[seed], "headline": True},
                **{"n": 100, "truncated": 0, "left_out": 0, "flag": ""},
            }
            path = folder / "glue" / task / "lora-coto" / "lr0.004" / f"seed{seed}" / "train.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"stage": "train", "rows": [row]}))
    return str(folder)


def test_runs_are_paired_and_averaged_per_seed(tmp_path: Path) -> None:
    # The two tasks differ by ± 2 points, which cancel within every seed but for a little.
    fp32 = {"a": [0.80, 0.81, 0.79, 0.80, 0.82], "b": [0.70] * 5}
    off = np.array([0.1, -0.2, 0.15, 0.0, -0.1]) / 100
    bf16 = {
        "a": [v + 0.02 + o for v, o in zip(fp32["a"], off, strict=True)],
        "b": [v - 0.02 + o for v, o in zip(fp32["b"], off, strict=True)],
    }
    folders = (
        leave_runs(tmp_path / "fp32", 5, fp32),
        leave_runs(tmp_path / "bf16", 5, bf16),
    )
    (row,) = run(bench_of(Settings(folders=folders), tmp_path))
    assert (row["case"], row["runs"], row["seeds"], row["verdict"]) == ("glue", 10, 5, "equal")
    assert row["difference"] == pytest.approx(100 * off.mean())
    assert row["largest_run"] == pytest.approx(2.2)


def test_too_few_seeds_and_missing_runs_are_one_line(tmp_path: Path) -> None:
    values = {"a": [0.8, 0.9, 0.7, 0.8]}
    folders = (leave_runs(tmp_path / "x", 4, values), leave_runs(tmp_path / "y", 4, values))
    with pytest.raises(CotoError, match=r"suite 'glue': 4 seeds are in both folders, expected 5"):
        run(bench_of(Settings(folders=folders), tmp_path))
    with pytest.raises(CotoError, match=r"none'.*: expected a results folder with trained runs"):
        run(bench_of(Settings(folders=(str(tmp_path / "none"), folders[1])), tmp_path))
