"""What a results folder says of itself, after files were changed behind its back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from coto import cli
from coto.measurements import MEASUREMENTS
from coto.measurements.base import Cell
from coto.workflow.verify import place_of, repair, verify
from tests.measurements.conftest import plan_of, run_job, write_rows
from tests.workflow.planned import jobs_of

RUN = "glue/movies/lora-coto/lr0.004/seed0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a run, and a pruning of it."""
    folder = write_rows(tmp_path_factory.mktemp("results"))
    rates = {"lora": [4.0e-3]}
    suite = {"seeds": [0], "train": {"steps": 4}, "learning_rates": rates}
    plan = plan_of(suites={"glue": suite})
    at = {"adapter": "lora", "strategy": "coto", "seed": 0}
    run_job(folder, plan, "train", task="movies", lr="0.004", **at)
    run_job(folder, plan, "select", task="movies", adapter="lora", strategy="coto")
    run_job(folder, plan, "prune", **at)
    return folder


@pytest.fixture
def results(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "results"))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def edit_a_score(path: Path) -> None:
    content = json.loads(path.read_text())
    content["rows"][0]["value"] = "high"
    path.write_text(json.dumps(content))


def lose_a_row(path: Path) -> None:
    pd.read_parquet(path).iloc[1:].to_parquet(path)


def test_a_whole_folder_holds(results: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["verify", str(results)]) == 0
    assert capsys.readouterr().out == "everything holds\n"


@pytest.mark.parametrize(
    ("path", "change", "told"),
    [
        (f"{RUN}/adapter/adapter_model.safetensors", flip_a_bit, {"train", "prune"}),
        (f"{RUN}/adapter/adapter_model.safetensors", cut, {"train", "prune"}),
        (f"{RUN}/adapter/adapter_model.safetensors", Path.unlink, {"train", "prune"}),
        (f"{RUN}/train.json", cut, {"train"}),
        (f"{RUN}/train.json", edit_a_score, {"train"}),
        (f"{RUN}/answers.parquet", cut, {"train"}),
        ("glue/movies/data/test.parquet", lose_a_row, {"train", "prune"}),
        ("glue/movies/data/test.parquet", cut, {"prepare", "train", "prune"}),
        ("glue/prune/lora-coto/seed0.json", cut, {"prune"}),
    ],
)
def test_what_was_changed_is_told_and_can_be_repaired(
    path: str, change: Callable[[Path], None], told: set[str], results: Path
):
    change(results / path)
    problems = list(verify(results))
    assert {place_of(problem.path).measurement.name for problem in problems} == told
    assert all("\n" not in str(problem) for problem in problems)
    removed = repair(results, problems)
    assert not any(one.exists() for one in removed)
    assert not (results / path).exists()
    # What is left holds, but for what the next run makes again before it.
    assert all("is not there" in problem.reason for problem in verify(results))


def test_a_command_that_repairs_says_what_it_removed(
    results: Path, capsys: pytest.CaptureFixture[str]
):
    cut(results / "glue/prune/lora-coto/seed0.json")
    assert cli.main(["verify", str(results)]) == 1
    assert "seed0.json: not valid JSON, perhaps half-written" in capsys.readouterr().out
    assert cli.main(["verify", str(results), "--repair"]) == 0
    assert "1 files and folders removed" in capsys.readouterr().out
    assert cli.main(["verify", str(results)]) == 0


def test_no_folder_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["verify", "nowhere"]) == 2
    assert capsys.readouterr().err == "results = 'nowhere': expected a results folder\n"


def test_the_place_of_every_job_is_found_by_its_path():
    for job in jobs_of(plan_of()):
        if job.rule in MEASUREMENTS:
            measurement = MEASUREMENTS[job.rule]
            cell = Cell(**dict(job.wildcards))
            for output in measurement.outputs:
                found = place_of(measurement.path(cell, output))
                assert found is not None
                assert (found.measurement.name, found.cell, found.output) == (
                    *(measurement.name, cell),
                    output,
                )
