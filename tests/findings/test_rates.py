"""The search for learning rates: the best, ends of grids, the form of a configuration."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from coto.config.models import Tables
from coto.errors import CotoError
from coto.findings.make import make_rates, make_table
from coto.findings.rates import EDGE, beyond, searched
from coto.report.records import load_frames
from coto.report.settings import Settings
from coto.workflow.load import overlay, validate
from tests.report.factory import make_records

ROOT = Path(__file__).resolve().parents[2]
Records = dict[str, list[Path]]
RATES = (1e-3, 4e-3, 1e-2)
FAST = Settings(resamples=100)


def found(root: Path, **more: Any) -> Records:
    """Two seeds of two tasks; the middle rate does best."""
    given: dict[str, Any] = {"tasks": ("movies", "news"), "adapters": ("lora",), "lrs": RATES}
    return make_records(root, **{**given, "seeds": (100, 101), "noise": 0.002, **more})


def raised(records: Records, strategy: str, lr: float, by: float, task: str = "") -> Records:
    """Records in which an arm does better at one rate, on one task or on all."""
    for path in records["train"]:
        record = json.loads(path.read_text())
        for row in record["rows"]:
            if (row["strategy"], row["lr"]) == (strategy, lr) and task in ("", row["task"]):
                row["value"] += by
        path.write_text(json.dumps(record))
    return records


def test_the_best_rate_has_the_best_mean_over_tasks(tmp_path: Path) -> None:
    # On one task alone another rate is far better for both tasks' mean; the smaller of equals wins.
    records = raised(found(tmp_path, noise=0.0), "coto", 1e-3, 0.08, "news")
    best = searched(load_frames(records)["train"]).set_index("strategy")
    assert best["lr"].to_dict() == {"coto": 1e-3, "vanilla": 4e-3}
    assert best["end"].to_dict() == {"coto": "lower", "vanilla": ""}
    equal = raised(found(tmp_path, noise=0.0), "coto", 1e-2, 0.03)
    assert searched(load_frames(equal)["train"])["lr"].tolist() == [4e-3, 4e-3]
    one = found(tmp_path / "one", lrs=(1e-3,))
    assert searched(load_frames(one)["train"]).empty


def test_the_rates_come_in_the_form_of_a_configuration(tmp_path: Path) -> None:
    records = found(tmp_path, tasks=("movies",), strategies=("vanilla", "coto"))
    make_rates(records, tmp_path / "rates.yaml", "error")
    layer = yaml.safe_load((tmp_path / "rates.yaml").read_text())
    grids = layer["suites"]["glue"]["learning_rates"]
    assert grids == {"lora-coto": [4e-3], "lora-vanilla": [4e-3]}
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    plan = validate(overlay(default, layer))
    assert plan.grid("glue", "lora", "coto") == ("0.004",)


@pytest.mark.parametrize(
    ("lr", "words"), [(1e-2, "upper end; expected"), (1e-3, "lower end; expected")]
)
def test_a_best_rate_at_an_end_is_one_line_that_says_where_to_go(
    tmp_path: Path, lr: float, words: str
) -> None:
    records = raised(found(tmp_path), "coto", lr, 0.06)
    way = "upwards" if lr == 1e-2 else "downwards"
    with pytest.raises(CotoError) as error:
        make_rates(records, tmp_path / "rates.yaml", "error")
    assert str(error.value) == (
        f"suites.glue.learning_rates.lora-coto = [0.001, 0.004, 0.01]: {lr:g} does best, the "
        f"{words} the best rate inside the grid: extend it {way}"
    )
    assert not (tmp_path / "rates.yaml").exists()
    make_rates(records, tmp_path / "rates.yaml", "flag")
    text = (tmp_path / "rates.yaml").read_text()
    assert f"\n# {error.value}\n" in text
    assert yaml.safe_load(text)["suites"]["glue"]["learning_rates"]["lora-coto"] == [lr]


def test_the_table_lists_every_rate_with_the_seeds_and_flags_an_end(tmp_path: Path) -> None:
    records = raised(found(tmp_path), "coto", 1e-2, 0.06)
    make_table("learning_rate", records, tmp_path / "rates", Tables(latex=False), FAST)
    text = (tmp_path / "rates.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| lora |")]
    assert len(rows) == 3 * 2 * 3  # two tasks and their average, arms, rates
    flagged = [row for row in rows if "‡" in row[-2]]
    assert [row[1:4] for row in flagged] == [["Average", "coto", "0.01"]]
    assert EDGE in text
    values = [
        row["value"]
        for path in records["train"]
        for row in json.loads(path.read_text())["rows"]
        if row["split"] == "validation"
        and (row["task"], row["strategy"], row["lr"]) == ("movies", "coto", 1e-2)
        and row["headline"]
    ]
    (line,) = [row for row in rows if row[1:4] == ["movies", "coto", "0.01"]]
    assert line[5] == f"{100 * min(values):.1f} to {100 * max(values):.1f}"
    assert line[4] == f"{100 * sum(values) / 2:.1f}"


def test_tables_that_quote_an_arm_say_that_its_rate_is_at_an_end(tmp_path: Path) -> None:
    records = found(tmp_path, lrs=(1e-3, 4e-3))  # the second of two is the upper end
    make_table("single_task", records, tmp_path / "single", Tables(latex=False), FAST)
    text = (tmp_path / "single.md").read_text()
    assert "Here: glue lora-coto on movies (0.004, the upper end)" in text
    inside = found(tmp_path / "inside")
    make_table("pruning", inside, tmp_path / "pruning", Tables(latex=False), FAST)
    assert "‡" not in (tmp_path / "pruning.md").read_text()
    assert beyond(load_frames(inside)["train"]) == []
