"""One finished run: what came out, what an edit reruns, that it repeats and survives being killed.

All in one file, so that the run is made once however the tests are spread over processes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from coto.config.plan import Plan
from coto.findings import FIGURES, TABLES
from coto.workflow.load import load
from tests.workflow.conftest import Checkout
from tests.workflow.edits import CONFIG_EDITS, USES_ADAPTERS, USES_ARMS, expected
from tests.workflow.planned import REPORT, Planned, Read, jobs_of, rerun

RESULTS = "results/smoke"


@pytest.fixture(scope="module")
def planned(finished: Checkout) -> dict[Planned, Read]:
    """The jobs of the finished run, by the rules' own functions."""
    return jobs_of(plan_of(finished.root))


def plan_of(root: Path, *overlays: str) -> Plan:
    files = ("config.yaml", "configs/smoke.yaml", *overlays)
    return load(*(root / file for file in files))


def test_the_rules_functions_name_the_jobs_that_snakemake_plans(
    planned: dict[Planned, Read], every_job: set[Planned]
):
    assert set(planned) == every_job


# Snakemake itself agrees with what test_reruns computes; some edits of each kind.
@pytest.mark.parametrize(
    "name",
    [
        "a merge weight",
        "one adapter's rank in one suite",
        "the decimals of tables",
        "two values swapped",
        "a seed taken away",
    ],
)
def test_snakemake_reruns_what_the_rules_functions_say(
    name: str, finished: Checkout, planned: dict[Planned, Read]
):
    edit, matches = CONFIG_EDITS[name]
    (finished.root / "edit.yaml").write_text(yaml.safe_dump(edit))
    after = jobs_of(plan_of(finished.root, "edit.yaml"))
    assert finished.planned("edit.yaml") == rerun(planned, after) == expected(after, matches)


def test_snakemake_sees_an_edit_of_the_code(finished: Checkout, every_job: set[Planned]):
    path = finished.root / "coto/measurements/evaluation.py"
    text = path.read_text()
    old = "if merged.adapter is None:"
    assert text.count(old) == 1
    path.write_text(text.replace(old, "if not merged.adapter:"))
    try:
        found = finished.planned()
    finally:
        path.write_text(text)
    assert found == expected(every_job, lambda job: job.rule in ("merge", "interpolate"))
    assert finished.planned() == set()


def test_what_a_plugin_adds_reruns_nothing_but_what_shows_it(finished: Checkout):
    shutil.copy(Path(__file__).with_name("plugin.py"), finished.root)
    (finished.root / "edit.yaml").write_text("plugins: [plugin.py]")
    planned = {(job.rule, job.table or job.figure) for job in finished.planned("edit.yaml")}
    new = {("norms", None), ("table", "norms"), ("figure", "norms")}
    assert planned == {*new, ("claims", None), ("figure", "forest")}


def test_keys_in_another_order(finished: Checkout):
    def reversed_keys(node):
        if isinstance(node, dict):
            return {key: reversed_keys(node[key]) for key in reversed(node)}
        return node

    with (
        swapped(finished.root / "config.yaml", reversed_keys),
        swapped(finished.root / "configs/smoke.yaml", reversed_keys),
    ):
        assert finished.planned() == set()


@contextmanager
def swapped(path: Path, change: Callable):
    text = path.read_text()
    path.write_text(yaml.safe_dump(change(yaml.safe_load(text)), sort_keys=False))
    try:
        yield
    finally:
        path.write_text(text)


def test_a_seed_more_is_that_seeds_chain(finished: Checkout, every_job: set[Planned]):
    (finished.root / "edit.yaml").write_text("suites: {glue: {seeds: [0, 1, 2]}}")
    found = finished.planned("edit.yaml")
    new = {job for job in found if job.rule not in {"geometry", *REPORT}}
    assert {job.rule for job in found} == {"train", *USES_ADAPTERS, *REPORT} - {"study"}
    assert all("2" in (job.seed or job.seeds).split("-") for job in new)
    glue = {job for job in every_job if job.suite == "glue"}
    trained = {(j.task, j.adapter, j.strategy) for j in glue if j.rule == "train"}
    arms = {(adapter, strategy) for _, adapter, strategy in trained}
    counts = {rule: sum(job.rule == rule for job in new) for rule in ("train", *USES_ARMS)}
    assert counts == {
        "train": len(trained),
        "prune": len(arms),
        "merge": len(arms),
        "subnetworks": len(arms),
        "interpolate": 3 * len(arms),  # with either old seed, and with both
    }


def test_a_task_more_trains_that_task_alone(finished: Checkout, every_job: set[Planned]):
    (finished.root / "edit.yaml").write_text("suites: {glue: {tasks: [movies, same-source, news]}}")
    found = finished.planned("edit.yaml")
    uses = {
        job for job in every_job if job.suite == "glue" and job.rule in {"baseline", *USES_ADAPTERS}
    }
    assert uses <= found
    others = {job for job in found if job.rule not in REPORT} - uses
    assert {(job.rule, job.task) for job in others} == {("prepare", "news"), ("train", "news")}


def test_a_grid_trains_what_is_new_and_selects(finished: Checkout, every_job: set[Planned]):
    (finished.root / "edit.yaml").write_text(
        "suites: {glue: {learning_rates: {lora-coto: [4.0e-3, 1.0e-3]}}}"
    )
    found = finished.planned("edit.yaml")
    arm = {job for job in found if job.rule not in REPORT | {"overhead", "geometry"}}
    assert {(job.adapter, job.strategy) for job in arm} == {("lora", "coto")}
    assert {job.lr for job in found if job.rule == "train"} == {"0.001"}
    assert sum(job.rule == "select" for job in found) == 2  # tasks


def test_an_edit_taken_back_reruns_nothing(finished: Checkout):
    (finished.root / "edit.yaml").write_text("adapters: {lora: {rank: 4}}")
    assert finished.planned("edit.yaml")
    assert finished.planned() == set()


def test_everything_that_a_person_asks_for_is_there(finished: Checkout):
    results = finished.root / RESULTS
    for table in TABLES:
        for suffix in ("csv", "md", "tex"):
            assert (results / f"tables/{table}.{suffix}").stat().st_size > 50
    for figure in FIGURES:
        for suffix in ("png", "svg"):
            assert (results / f"figures/{figure}.{suffix}").stat().st_size > 1000
    claims = (results / "claims.md").read_text()
    for word in ("single-task", "lmc-midpoint", "merging-fusion", "pruning", "training-time"):
        assert word in claims
    for word in ("dropout-stability", "balanced-contribution", "unstructured-pruning", "variants"):
        assert word in claims
    assert (results / "glue/merge/lora-coto/seed0/fusion/adapter_config.json").is_file()
    assert (results / "report.html").stat().st_size > 100_000


def test_single_tables_and_figures_are_there_by_name(finished: Checkout):
    done = finished.snakemake("table_r1", "figure_r5", "table_theorem", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr


def test_tables_hold_every_arm_and_seed(finished: Checkout):
    table = pd.read_csv(finished.root / RESULTS / "tables/single_task.csv")
    assert {"lora", "dora", "hira"} <= set(table["adapter"])
    assert {"vanilla", "coto"} <= set(table["strategy"])
    assert {"glue", "glue-frozen", "commonsense", "images"} == set(table["suite"])
    assert {"movies", "same-source", "digits", "Average"} <= set(table["task"])
    movies = table[(table["suite"] == "glue") & (table["task"] == "movies")]
    assert movies["n_seeds"].dropna().eq(2).all()


def test_every_job_left_a_log_and_a_benchmark(finished: Checkout, every_job):
    results = finished.root / RESULTS
    assert len(list((results / "logs").rglob("*.log"))) == len(every_job)
    assert len(list((results / "benchmarks").rglob("*.tsv"))) == len(every_job)
    assert not list(results.glob(".checkpoints/*/checkpoint-*"))


def test_a_second_call_has_nothing_to_do(finished: Checkout):
    report = finished.root / RESULTS / "report.html"
    before = report.stat().st_mtime_ns
    done = finished.run("--configfile", "configs/smoke.yaml", module="coto.reproduce")
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr
    assert report.stat().st_mtime_ns == before


def test_a_run_from_scratch_gives_the_same_numbers(finished: Checkout):
    # One arm anew, from training to the operators: equal to the last bit.
    suite = finished.root / RESULTS / "glue"
    arm, results = "lora-coto", {}
    records = [f"prune/{arm}/seed0.json", f"movies/{arm}/lr0.004/seed0/train.json"]
    for attempt in ("first", "again"):
        rows = [json.loads((suite / name).read_text())["rows"] for name in records]
        weights = load_file(suite / f"movies/{arm}/lr0.004/seed0/adapter/adapter_model.safetensors")
        results[attempt] = (
            rows,
            {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
        )
        if attempt == "first":
            for task in ("movies", "same-source"):
                shutil.rmtree(suite / task / arm / "lr0.004" / "seed0")
            (suite / records[0]).unlink()
            done = finished.snakemake(f"{RESULTS}/glue/{records[0]}")
            assert done.returncode == 0, done.stderr
    assert results["first"] == results["again"]


def test_a_study_runs_on_request_and_reuses_nothing_of_the_report(finished: Checkout):
    (finished.root / "study.yaml").write_text(
        "studies: {schedules: {seeds: [0], adapters: [hira]}}"
    )
    before = {path: path.stat().st_mtime_ns for path in (finished.root / RESULTS).glob("*/*.csv")}
    done = finished.snakemake("schedules", configs=["study.yaml"])
    assert done.returncode == 0, done.stdout + done.stderr
    folder = finished.root / RESULTS / "schedules"
    (record,) = folder.glob("trajectory/*.json")
    rows = pd.DataFrame(json.loads(record.read_text())["rows"])
    assert set(rows["share"]) == {0.5, 1.0}
    assert set(rows["quantity"]) == {"single", "prune odd", "prune even"}  # one seed: no merge
    (trained,) = folder.glob("digits/hira-coto/*/seed0/train.json")
    final = pd.DataFrame(json.loads(trained.read_text())["rows"]).query("split == 'test'")
    last = rows.query("share == 1.0 and quantity == 'single'")
    # The last snapshot is the trained adapter; W + ΔW rounds otherwise than W and the adapter.
    assert abs(last["value"].item() - final["value"].item()) <= 1 / 24
    for suffix in ("csv", "md", "tex", "png", "svg"):
        assert (finished.root / RESULTS / f"studies/schedules.{suffix}").stat().st_size > 100
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_killed_run_is_finished_by_the_next(checkout: Checkout, finished: Checkout):
    overlay = {"results": "results/killed", "suites": {"glue": {"seeds": [7]}}}
    overlay["suites"]["glue"] |= {"train": {"steps": 60}, "adapters": ["lora"], "tasks": ["movies"]}
    (checkout.root / "killed.yaml").write_text(yaml.safe_dump(overlay))
    shutil.copytree(checkout.root / RESULTS / "corpora", checkout.root / "results/killed/corpora")
    target = "results/killed/glue/prune/lora-coto/seed7.json"
    command = ["--configfile", "configs/smoke.yaml", "killed.yaml", "--cores", "1"]
    environment = {**os.environ, "PYTHONPATH": str(checkout.root)}
    log = checkout.root / "results/killed/logs/train/glue/movies/lora-coto/lr0.004/seed7.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "coto.reproduce", target, *command],
        cwd=checkout.root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not log.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # in the middle of a job
    process.wait()
    assert not (checkout.root / target).exists()
    assert list((checkout.root / ".snakemake/locks").iterdir())
    done = checkout.run(target, *command, module="coto.reproduce")
    assert done.returncode == 0, done.stderr
    assert (checkout.root / target).exists()


def test_a_claim_that_cannot_be_tested_is_reported_at_the_start(checkout: Checkout):
    overlay = "suites: {glue: {interpolate: {weights: [0.0, 1.0]}}}"
    (checkout.root / "ends.yaml").write_text(overlay)
    done = checkout.snakemake("--dry-run", "--quiet", configs=["ends.yaml"])
    reason = "suites.glue.interpolate.weights = [0.0, 1.0]: expected 0.5 among them"
    assert f"lmc-midpoint cannot be tested: {reason}" in done.stdout + done.stderr


def test_bad_configuration_stops_before_any_job(checkout: Checkout):
    (checkout.root / "bad.yaml").write_text("suites: {glue: {seeds: [-1]}}")
    for module in ("coto.reproduce", "snakemake"):
        done = checkout.run("--configfile", "configs/smoke.yaml", "bad.yaml", module=module)
        assert done.returncode != 0
        said = done.stdout + done.stderr
        assert "suites.glue.seeds[0] = -1: expected greater than or equal to 0" in said
        assert "Traceback" not in said
