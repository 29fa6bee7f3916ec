"""Jobs queue, fail, time out, are preempted and killed; nothing is lost and nothing trained twice.

Steps are counted over all attempts: each training's log says what it went on from.
"""

import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from coto.config import paths
from coto.workflow import cluster as checks
from tests.slurm.conftest import Checkout

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]
LONG = {"steps": 600, "batch_size": 32, "checkpoint_every": 10}
TRAIN = "results/tiny/images/digits/lora-vanilla/lr0.02/seed0/train.json"
LOG = "train/images/digits/lora-vanilla/lr0.02/seed0"
REPRODUCE = ("-m", "coto.reproduce")


def test_a_run_on_the_cluster_is_the_local_run(checkout: Checkout):
    status, output = checkout.run("tables", "claims")
    assert status == 0, output
    there = checkout.results.rename(checkout.root / "there")
    local = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "run.yaml"]
    done = subprocess.run([*local, "tables", "claims"], cwd=checkout.root, env=checkout.environment)
    assert done.returncode == 0
    compare = [sys.executable, "-m", "coto", "compare", str(there), str(checkout.results)]
    compared = subprocess.run(
        compare, cwd=checkout.root, env=checkout.environment, capture_output=True, text=True
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr


def test_a_training_over_its_time_limit_goes_on_where_it_was(checkout: Checkout):
    checkout.configure(train=LONG, jobs={"memory_mb": 3000, "minutes": 1})
    status, output = checkout.run(TRAIN)
    assert status == 0, output
    log = checkout.log(LOG)
    assert len(re.findall("going on from checkpoint-", log)) >= 1
    assert list(checkout.results.glob("logs/train/**/*.attempt1.log"))


@pytest.mark.parametrize("way", ["scancel", "kill"])
def test_a_job_that_somebody_ends_goes_on_where_it_was(checkout: Checkout, way: str):
    checkout.configure(train={**LONG, "steps": 150})
    process = checkout.start(TRAIN)
    checkout.wait_until(checkout.checkpoints)
    if way == "scancel":
        checkout.slurm("scancel", checkout.jobs()["train"])
    else:
        command = "coto train.*--root results/tiny"
        subprocess.run(["pkill", "-KILL", "-f", command], check=True)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "going on from checkpoint-" in checkout.log(LOG)


def test_a_preempted_job_goes_on_where_it_was(checkout: Checkout):
    checkout.configure(train={**LONG, "steps": 150})
    process = checkout.start(TRAIN, "--default-resources", "slurm_partition=low", "mem_mb=2000")
    checkout.wait_until(checkout.checkpoints)
    job = checkout.jobs()["train"]
    urgent = ["sbatch", "--partition=main", "--nodes=2", "--exclusive", "--wrap=sleep 1"]
    checkout.slurm(*urgent)
    checkout.wait_until(lambda: job in checkout.jobs("PENDING").values())
    checkout.slurm("scontrol", "update", f"jobid={job}", "starttime=now")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "going on from checkpoint-" in checkout.log(LOG)


def test_a_wrong_input_is_not_tried_again(checkout: Checkout):
    config = yaml.safe_load((checkout.root / "run.yaml").read_text())
    del config["suites"]["glue"]
    (checkout.root / "run.yaml").write_text(yaml.safe_dump(config))
    archive = checkout.results / paths.CORPORA
    archive.parent.mkdir(parents=True)
    archive.write_text("no archive")
    status, output = checkout.run("results/tiny/glue/movies/data/train.parquet")
    assert status != 0
    log = checkout.log("prepare/glue/movies")
    assert log.count("not tried again: ") == 2, output
    assert archive.name in log


def test_no_second_copy_of_jobs_that_a_killed_workflow_left(checkout: Checkout):
    checkout.configure(train={**LONG, "steps": 300})
    process = checkout.start(TRAIN)
    checkout.wait_until(checkout.checkpoints)
    process.send_signal(signal.SIGKILL)
    process.wait()
    status, output = checkout.run(TRAIN, module=REPRODUCE)
    assert status == 1
    assert "1 jobs of an earlier run are in the queue: wait for them (--wait)" in output
    assert checkout.jobs()["train"] in output
    status, output = checkout.run("--wait", TRAIN, module=REPRODUCE)
    assert status == 0, output
    log = checkout.log(LOG)
    assert "going on from" not in log  # the orphan finished, and its work was taken
    assert "it was trained before" in log


def test_work_that_was_done_when_its_job_was_lost_is_kept(checkout: Checkout):
    checkout.configure(train={**LONG, "steps": 60}, jobs={"memory_mb": 3000, "minutes": 2})
    process = checkout.start(TRAIN)
    checkout.wait_until(checkout.checkpoints)
    # The daemon of the job's step dies: SLURM takes the job to run on, up to its limit.
    job = checkout.jobs()["train"]
    subprocess.run(["pkill", "-KILL", "-f", rf"slurmstepd: \[{job}\.0\]"], check=True)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    log = checkout.log(LOG)
    assert "going on from" not in log


def test_only_gpu_rules_ask_for_gpus(checkout: Checkout):
    checkout.configure()
    config = (checkout.root / "run.yaml").read_text()
    (checkout.root / "run.yaml").write_text(f"device: cuda\n{config}")
    process = checkout.start(TRAIN)
    asked = {}
    end = time.monotonic() + 120
    while "train" not in asked and time.monotonic() < end:
        for state in ("RUNNING", "PENDING", "COMPLETED", "FAILED"):
            for rule, job in checkout.jobs(state).items():
                asked[rule] = checkout.slurm("scontrol", "show", "job", job)
        time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert "gres/gpu" in asked["train"]
    assert "gres/gpu" not in asked["short_prepare"]


def test_what_is_missing_is_one_line(checkout: Checkout, monkeypatch: pytest.MonkeyPatch):
    options = ["--configfile", "run.yaml", "--workflow-profile"]
    run = [sys.executable, "-m", "coto.reproduce", *options]
    settings = {"cwd": checkout.root, "capture_output": True, "text": True}
    done = subprocess.run([*run, "nope"], env=checkout.environment, **settings)
    assert done.returncode == 2
    assert done.stderr == "--workflow-profile = 'nope': expected a folder with a config.yaml\n"
    path = checkout.root / "profile/config.yaml"
    path.write_text(
        path.read_text().replace("mem_mb: 2000", "mem_mb: 2000\n  slurm_partition: gpu")
    )
    done = subprocess.run([*run, "profile"], env=checkout.environment, **settings)
    assert done.returncode == 2
    expected = "slurm_partition = 'gpu': expected one of this cluster's: low, main, scratch\n"
    assert done.stderr == expected
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(checks.CotoError, match=r"plugin is not installed, expected `pip install"):
        checks.check_slurm({})
