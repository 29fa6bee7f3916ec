import os
from pathlib import Path

import pytest

from benchmarks.workflow import _busy


def leave_job(results: Path, name: str, seconds: float, end: float) -> None:
    path = results / "benchmarks" / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\n{seconds}\t0:00:01\n")
    os.utime(path, (end, end))


def test_core_seconds_over_those_there_were(tmp_path: Path) -> None:
    leave_job(tmp_path, "train/glue/a", seconds=10, end=1010)
    leave_job(tmp_path, "train/glue/b", seconds=4, end=1004)
    leave_job(tmp_path, "overhead/glue/lora", seconds=5, end=1015)  # with both cores
    (row,) = _busy(tmp_path, cores=2)
    assert row["ratio"] == pytest.approx((10 + 4 + 2 * 5) / (15 * 2))
    assert (row["seconds"], row["longest_job"]) == (15, 10)


def test_a_copied_folder_is_known_by_its_times(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        leave_job(tmp_path, f"train/glue/{name}", seconds=10, end=1010)
    (row,) = _busy(tmp_path, cores=2)
    assert "is a copy" in row["note"]
