"""What a run will take, from what finished jobs took."""

from pathlib import Path

import pytest

from coto.workflow.forecast import Measured, Planned, measure, planned, render


def job(rule: str, suite: str, **more: object) -> Planned:
    values = {"reason": "whose output is missing", "threads": 1, "gpus": 0, "outputs": ()}
    return Planned(rule=rule, suite=suite, benchmark="", **{**values, **more})


def benchmark(results: Path, path: str, seconds: float) -> None:
    file = results / "benchmarks" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"s\th:m:s\n{seconds}\t0:00:00\n")


def test_times_are_known_by_kind_and_suite(tmp_path: Path):
    benchmark(tmp_path, "train/glue/movies/seed0.tsv", 10.0)
    benchmark(tmp_path, "train/glue/movies/seed1.tsv", 30.0)
    benchmark(tmp_path, "train/images/digits/seed0.tsv", 5.0)
    benchmark(tmp_path, "table/shapley.tsv", 1.0)
    found = measure([tmp_path, tmp_path], ["glue", "images", "other"])
    assert found.seconds_of("train", "glue") == 20.0
    assert found.seconds_of("train", "other") == 15.0  # of all suites
    assert found.seconds_of("table", "") == 1.0
    assert found.seconds_of("merge", "glue") is None


def test_the_forecasts_error_leaves_each_job_out():
    found = Measured()
    found.seconds["train", "glue"] += [10.0, 20.0, 30.0]
    found.seconds["claims", ""] += [99.0]  # of one there is no forecast
    # 10 from 25, 20 from 20, 30 from 15
    assert found.error() == pytest.approx((15 + 0 + 15) / 60)


def test_core_and_gpu_hours_are_sums_over_jobs():
    found = Measured()
    found.seconds["train", "glue"] += [1800.0]
    jobs = [job("train", "glue", threads=2, gpus=1), job("train", "glue", gpus=1)]
    jobs.append(job("merge", "glue", reason="after other jobs"))
    text = render(jobs, found, cores=2)
    (line,) = [line.split() for line in text.splitlines() if line.startswith("train")]
    assert line == ["train", "glue", "2", "1.50", "1.00", "?"]
    assert "3 jobs: 2 whose output is missing, 1 after other jobs" in text
    assert "1.50 core-hours, about 45 min on 2 cores" in text
    assert "1 jobs are of a kind that was never measured" in text


def test_nothing_to_run_is_said():
    assert render([], Measured(), 2) == "nothing to run: everything is there"


def test_snakemake_says_what_would_run_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    jobs = list(planned(["table_training_time", "--cores", "1"]))
    assert {one.rule for one in jobs} >= {"overhead", "table"}
    assert {one.reason for one in jobs} <= {"whose output is missing", "after other jobs"}
    (table,) = [one for one in jobs if one.rule == "table"]
    assert table.benchmark == "results/benchmarks/table/training_time.tsv"
    assert table.outputs[0] == "results/tables/training_time.csv"
