"""Two results folders hold the same numbers, or the first differences are named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from coto.errors import CotoError
from coto.workflow.compare import SHOWN, compare, main

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The reference results, and a copy with a study."""
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        shutil.copytree(REFERENCE, folder, ignore=shutil.ignore_patterns("*.png", "*.md", "*.json"))
        (folder / "studies").mkdir()
        (folder / "studies" / "steps.csv").write_text("suite,task,x,mean\nlong,sst2,1,0.5\n")
    return a, b


def change(path: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Edit a table and leave every other cell as it is written."""
    edit(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


def put(row: int, **cells: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[row, list(cells)] = list(cells.values())
        return frame

    return edit


def test_order_of_rows_and_writing_of_numbers_do_not_matter(folders, capsys):
    a, b = folders
    for path in b.rglob("*.csv"):
        change(path, lambda frame: frame.sample(frac=1, random_state=0))
    change(b / "studies/steps.csv", put(0, x="1.0", mean="5e-1"))
    assert compare(a, b) == []
    assert main([str(a), str(b)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{len([*a.rglob('*.csv')])} files, ")
    timed = pd.read_csv(a / "tables/training_time.csv")
    claims = pd.read_csv(a / "claims.csv").query("claim == 'training-time'")
    # All cells but those that say of what: suite, task, adapter, strategy; claim, suite, …
    timings = len(timed) * (timed.shape[1] - 4) + len(claims) * (claims.shape[1] - 4)
    assert line.endswith(f"compared: no differences; {timings} timings, not compared")


def test_a_difference_names_file_row_column_and_values(folders, capsys):
    a, b = folders
    change(b / "studies/steps.csv", put(0, mean="0.501"))
    change(a / "claims.csv", put(3, verdict="supported", effect=""))
    change(b / "claims.csv", put(3, verdict="refuted", effect="2.0"))
    at = "claims.csv: single-task/images/lora"
    assert compare(a, b) == [
        f"{at}: verdict: supported ≠ refuted",
        f"{at}: effect: — ≠ 2.0",
        "studies/steps.csv: long/sst2/x=1: mean: 0.5 ≠ 0.501",
    ]
    assert compare(a, b, tolerance=0.01)[-1].startswith("claims.csv: ")
    assert compare(a, b, ignore=["claims.csv", "studies/*"]) == []
    assert main([str(a), str(b), "--tolerance", "0.01", "--ignore", "claims.csv"]) == 0
    assert main([str(a), str(b)]) == 1
    assert "3 differences" in capsys.readouterr().out.splitlines()[-1]


def test_times_are_not_compared(folders):
    a, b = folders
    change(b / "tables/training_time.csv", put(0, seconds_per_step="9", hardware="other"))
    claims = pd.read_csv(b / "claims.csv")
    row = claims.index[claims["claim"] == "training-time"][0]
    change(b / "claims.csv", put(row, effect="9", verdict="supported"))
    assert compare(a, b) == []
    first = pd.read_csv(a / "tables/training_time.csv").iloc[0]
    change(b / "tables/training_time.csv", lambda frame: frame.iloc[1:])
    place = "/".join(first[["suite", "task", "adapter", "strategy"]])
    assert compare(a, b) == [f"tables/training_time.csv: {place}: only in {a}"]


def test_what_is_missing_is_a_difference(folders):
    a, b = folders
    (b / "tables/pruning.csv").unlink()
    change(b / "tables/single_task.csv", lambda frame: frame.drop(columns="n_test"))
    change(b / "studies/steps.csv", lambda frame: pd.concat([frame, frame.assign(x="2")]))
    assert compare(a, b) == [
        f"studies/steps.csv: long/sst2/x=2: only in {b}",
        f"tables/pruning.csv: only in {a}",
        f"tables/single_task.csv: column n_test: only in {a}",
    ]


def test_of_many_differences_the_first_are_printed(folders):
    a, b = folders
    change(b / "tables/theorem.csv", lambda frame: frame.assign(n_seeds="7"))
    before = pd.read_csv(a / "tables/theorem.csv")["n_seeds"]
    lines = compare(a, b)
    assert len(lines) == SHOWN + 1
    assert lines[-1] == f"tables/theorem.csv: and {(before != 7).sum() - SHOWN} more differences"


def test_a_folder_without_results_is_reported_in_one_line(tmp_path, capsys):
    with pytest.raises(CotoError, match="no results folder, expected"):
        compare(REFERENCE, tmp_path)
    assert main([str(REFERENCE), str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
