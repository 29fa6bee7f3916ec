"""Every benchmark runs, at toy size, and compares what it says."""

import json
from pathlib import Path

import pytest

from benchmarks import (
    after_training,
    gpu,
    peers,
    saving,
    scaling,
    scoring,
    step_profile,
    switches,
    workflow,
)
from benchmarks.__main__ import main
from benchmarks.common.harness import BENCHMARKS
from coto.config import paths
from coto.models.settings import Fast
from tests.benchmarks.conftest import SMALL_BERT, bench_of, leave_texts
from tests.models import small_causal


def test_saving(tmp_path: Path) -> None:
    settings = saving.Settings(
        kinds=("lora", "dora", "hira"),
        shape=SMALL_BERT,
        rank=2,
        batch=2,
        length=6,
        steps=2,
        active=(1,),
    )
    rows = saving.run(bench_of(settings, tmp_path))
    whole = ["coto", "floor", "coto, fast", "vanilla, fast"]
    masks = ["lowest 1", "highest 1"]
    assert [(row["case"], row["way"]) for row in rows] == [
        found
        for kind in ("lora", "dora", "hira")
        for found in [
            *((kind, way) for way in (*whole, *masks)),
            *((f"{kind}, fast", way) for way in masks),
        ]
    ]
    assert all(row["ratio"] > 0 and row["forward"] > 0 and row["backward"] > 0 for row in rows)
    highest = [row for row in rows if row["way"] == "highest 1"]
    assert all(row["memory_mb"] < row["memory_mb_against"] for row in highest)


def test_scaling(tmp_path: Path) -> None:
    settings = scaling.Settings(
        shape=SMALL_BERT, layers=(2, 4), ranks=(2, 4), batches=(2, 4), length=6, steps=2
    )
    rows = scaling.run(bench_of(settings, tmp_path))
    assert [row["case"] for row in rows[:3]] == ["layers", "rank", "batch"]
    assert [row["way"] for row in rows[:3]] == ["layers 4", "rank 4", "batch 4"]
    for row in rows[:3]:  # all three make a step hold more
        assert row["memory_mb"] > row["memory_mb_against"]
    depths = [(row["x"], row["way"]) for row in rows[3:]]
    assert depths == [(2, "coto"), (2, "floor"), (4, "coto"), (4, "floor")]
    assert all(0 < row["predicted"] <= 1 for row in rows[3:])


def test_gpu_at_toy_size_on_the_cpu(tmp_path: Path) -> None:
    shape = {"layers": 2, "width": 32, "heads": 4, "key_value_heads": 2, "mlp": 64}
    options = [
        *("gpu", "--quick", "--rounds", "1", "--device", "cpu", "--folder", str(tmp_path)),
        *("--set", f"shape={json.dumps(shape | {'vocabulary': 64})}"),
        *("--set", "batch=2", "--set", "length=6", "--set", "rank=2", "--set", "steps=2"),
    ]
    assert main(options) == 0
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["environment"]["precision"] == "bf16"
    cases = list(dict.fromkeys(row["case"] for row in record["rows"]))
    kinds = ("lora", "dora", "hira")
    assert cases == [
        f"{kind}{end}"
        for kind in kinds
        for end in ("", ", fast", ", checkpointing", ", checkpointing, fast")
    ]
    assert {row["way"] for row in record["rows"]} == {"coto", "floor"}


def test_what_does_not_fit_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise gpu.torch.OutOfMemoryError

    monkeypatch.setattr(gpu.shapes, "llama", full)
    settings = gpu.Settings(kinds=("dora",), shape={"vocabulary": 64}, batch=1, length=4)
    rows = gpu.run(bench_of(settings, tmp_path))
    assert [row["case"] for row in rows] == ["dora", "dora, checkpointing"]
    assert all("does not fit" in row["note"] for row in rows)


def test_peers(tmp_path: Path) -> None:
    leave_texts(tmp_path / "work")
    cases = {
        "text": peers.Case(suite="glue", task="movies", batch=2, steps=3),
        "images": peers.Case(suite="images", task="digits", batch=4, steps=3),
    }
    rows = peers.run(bench_of(peers.Settings(cases=cases), tmp_path, rounds=1))
    pairs = [("docs", "fit"), ("README", "fit, CoTo"), ("fair", "fit"), ("fit, plain", "fit")]
    pairs += [("fit, plain, bf16", "fit, bf16"), ("docs", "fit, bf16")]
    pairs += [("fair, bf16", "fit, bf16"), ("fair", "fit, bf16")]
    assert [(row["case"], row["way"], row["against"]) for row in rows] == [
        (case, *pair) for case in cases for pair in pairs
    ]
    for row in rows:
        assert row["per_second_against"] / row["per_second"] == pytest.approx(row["ratio"])


def test_switches_and_profile(tmp_path: Path) -> None:
    leave_texts(tmp_path / "work")
    cases = {"text": peers.Case(suite="glue", task="movies", batch=4, steps=2)}
    bench = bench_of(switches.Settings(cases=cases, precisions=("fp32",)), tmp_path, rounds=1)
    ways = [row["way"] for row in switches.run(bench)]
    assert ways == [*(f"without {name}" for name in Fast.model_fields), "without all"]
    settings = step_profile.Settings(case=cases["text"], precision="fp32")
    rows = step_profile.run(bench_of(settings, tmp_path, rounds=1))
    assert {"matrix products", "optimizer", "outside of torch"} <= {row["case"] for row in rows}
    for name in ("share_before", "share_after"):
        assert sum(row[name] for row in rows) == pytest.approx(1)


def test_after_training(tmp_path: Path) -> None:
    leave_texts(tmp_path / "work" / "states-4")
    settings = after_training.Settings(rows=4, weights=3, groups=3, looped=2, reloaded=1)
    rows = after_training.run(bench_of(settings, tmp_path, rounds=1))
    assert [(row["case"], row["way"], row["against"]) for row in rows] == [
        (kind, way, "jobs")
        for kind in ("interpolation", "pruning", "subsets")
        for way in ("loop", "reloading")
    ]
    assert [row["states"] for row in rows[::2]] == [6, rows[2]["states"], 8]


def test_scoring(tmp_path: Path) -> None:
    model = small_causal.save(tmp_path / "model")
    path = tmp_path / "work" / paths.data("commonsense", "snippets", "test")
    path.parent.mkdir(parents=True)
    small_causal.rows(6).to_parquet(path)
    settings = scoring.Settings(items=4, path=str(model))
    (row,) = scoring.run(bench_of(settings, tmp_path))
    assert (row["way"], row["against"], row["items"]) == ("scoring", "forward pass", 4)
    assert row["ratio"] > 0


def test_workflow_starts(tmp_path: Path) -> None:
    settings = workflow.Settings(dry_runs=("configs/smoke.yaml",), results=str(tmp_path))
    rows = workflow.run(bench_of(settings, tmp_path, rounds=1))
    found = {row.get("way"): row for row in rows}
    assert found["by itself"]["against"] == "by the job server"
    assert found["start of a training"]["against"] == "its imports"
    assert "dry-run, configs/smoke.yaml" in found
    assert "no benchmark files" in rows[-1]["note"]


def test_a_problem_with_the_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, line in {
        "savings": "benchmark 'savings': did you mean 'saving'? expected one of after_training",
        "saving --rounds 3": "--rounds = 3: expected 7 or more, or --quick",
        "saving --set rank=0": "saving: rank = 0: Input should be greater than 0",
        "saving --set ranks=8": "saving: ranks = 8: Extra inputs are not permitted",
    }.items():
        assert main(arguments.split()) == 2
        error = capsys.readouterr().err
        assert error.startswith(line), error
        assert error.count("\n") == 1


@pytest.mark.parametrize("name", BENCHMARKS)
def test_reduced_settings_are_settings(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert set(benchmark.quick) <= set(benchmark.settings.model_fields)
