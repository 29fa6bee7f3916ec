"""What adapters are worth, from made records."""

import json
from pathlib import Path

import pytest

from coto.report.quantities import worth_of_adapters
from coto.report.records import load_frames
from tests.report.factory import make_records


def test_the_worth_of_adapters_pairs_every_run_with_itself(tmp_path: Path) -> None:
    records = make_records(
        tmp_path, tasks=("movies", "news"), lrs=(1e-3, 2e-3, 4e-3), worth=0.25, noise=0.0
    )
    rows = worth_of_adapters(load_frames(records))
    assert list(rows) == ["suite", "task", "adapter", "strategy", "seed", "all", "none"]
    assert len(rows) == 2 * 2 * 2 * 3  # tasks, adapters, strategies, seeds: one rate of each arm
    assert (rows["all"] - rows["none"]).tolist() == pytest.approx([0.25] * len(rows))


def test_runs_without_a_record_of_none_are_left_out(tmp_path: Path) -> None:
    records = make_records(tmp_path, tasks=("movies",), adapters=("lora",))
    missing = records["none"].pop()
    (row,) = json.loads(missing.read_text())["rows"]
    rows = worth_of_adapters(load_frames(records))
    assert len(rows) == 5
    assert not len(rows[(rows["strategy"] == row["strategy"]) & (rows["seed"] == row["seed"])])
    assert worth_of_adapters(load_frames({**records, "none": []})).empty
