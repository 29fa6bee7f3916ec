"""A real SLURM cluster on this machine: two nodes, accounting, and a GPU each that is none."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.conftest import copy_project

SCRIPT = Path(__file__).with_name("cluster.sh")
QUICK = Path(__file__).with_name("quick_snakemake.py")
SETTINGS = {
    "SLURM_LOCAL_DIR": "/tmp/coto-slurm",
    "SLURM_LOCAL_DBD": "1",
    "SLURM_LOCAL_CPUS": "4",
    "SLURM_LOCAL_MEM": "10000",
}
# One run of each arm and nothing else.
TINY: dict[str, Any] = {
    "results": "results/tiny",
    "suites": {
        "glue": None,
        "glue-frozen": None,
        "commonsense": None,
        "images-hira": None,
        "images": {
            "tasks": ["digits"],
            "adapters": ["lora"],
            "seeds": [0],
            "learning_rates": {"lora": [2.0e-2]},
            "train": {"steps": 6, "batch_size": 8},
            "rows": {"shots": 2, "validation": 24, "test": 24},
            "merge": None,
            "prune": None,
            "subnetworks": None,
            "geometry": None,
            "overhead": None,
            "interpolate": None,
            "jobs": {"memory_mb": 3000, "minutes": 10},
        },
    },
    "studies": {"strategies": None, "schedules": None, "lr_sweep": None, "dependence": None},
}


@dataclass(frozen=True)
class Checkout:
    """A copy of the project with a profile for this cluster."""

    root: Path
    environment: Mapping[str, str]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def configure(self, **images: Any) -> None:
        """Write ``run.yaml``: the tiny configuration with changes of its suite."""
        suite = {**TINY["suites"]["images"], **images}
        config = {**TINY, "suites": {**TINY["suites"], "images": suite}}
        (self.root / "run.yaml").write_text(yaml.safe_dump(config))

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.root / "results/tiny"

    def start(
        self, *arguments: str, module: Sequence[str] = (str(QUICK),)
    ) -> subprocess.Popen[str]:
        """Begin Snakemake with every job on the cluster."""
        options = [*arguments, "--workflow-profile", "profile", "--configfile", "run.yaml"]
        process = subprocess.Popen(
            [sys.executable, *module, *options],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str, module: Sequence[str] = (str(QUICK),)) -> tuple[int, str]:
        """Exit status and output of a whole run."""
        process = self.start(*arguments, module=module)
        output, _ = process.communicate(timeout=900)
        return process.returncode, output

    def slurm(self, *command: str) -> str:
        """Output of one of SLURM's programs."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout

    def jobs(self, state: str = "RUNNING") -> dict[str, str]:
        """Ids of this folder's jobs by the rule that they run."""
        rows = self.slurm("squeue", "--noheader", f"--states={state}", "--format=%A|%k|%Z")
        found = (row.split("|") for row in rows.splitlines())
        name = re.compile(r"(?:rule|group)_(.+?)(?:_wildcards_|$)")
        return {
            rule[1]: job
            for job, comment, folder in found
            if folder == str(self.root) and (rule := name.search(comment))
        }

    def wait_until(self, what: Callable[[], Any], seconds: float = 240) -> Any:
        """Wait until something is true of a running workflow; returns its value."""
        end = time.monotonic() + seconds
        while not (value := what()):
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.2)
        return value

    def checkpoints(self) -> list[int]:
        """Steps of the complete checkpoints that are kept."""
        states = self.results.glob(".checkpoints/*/checkpoint-*/trainer_state.json")
        return sorted(int(path.parent.name.rpartition("-")[2]) for path in states)

    def log(self, *names: str) -> str:
        """Logs of a job, all attempts together."""
        return "\n".join(
            path.read_text() for path in sorted(self.results.glob(f"logs/{'/'.join(names)}*.log"))
        )


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """Environment of a running cluster."""
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("pip install -c envs/constraints.txt '.[slurm]'")
    if missing := [p for p in ("slurmctld", "slurmd", "munged", "slurmdbd") if not _which(p)]:
        pytest.skip(f"{', '.join(missing)} missing: tests/slurm/cluster.sh install")
    environment = {**os.environ, **SETTINGS}
    subprocess.run([SCRIPT, "start"], env=environment, check=True, capture_output=True)
    try:
        folder = SETTINGS["SLURM_LOCAL_DIR"]
        environment["SLURM_CONF"] = f"{folder}/etc/slurm.conf"
        interpreter = str(Path(sys.executable).parent)
        environment["PATH"] = os.pathsep.join([f"{folder}/bin", interpreter, os.environ["PATH"]])
        yield environment
    finally:
        subprocess.run([SCRIPT, "clean"], env=environment, check=True, capture_output=True)


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@pytest.fixture
def checkout(cluster: dict[str, str], tmp_path: Path) -> Iterator[Checkout]:
    """A copy of the project of its own."""
    copy_project(tmp_path)
    profile = yaml.safe_load((tmp_path / "profiles/slurm/config.yaml").read_text())
    profile |= {"latency-wait": 10, "slurm-init-seconds-before-status-checks": 1}
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile/config.yaml").write_text(yaml.safe_dump(profile))
    made = Checkout(tmp_path, {**cluster, "PYTHONPATH": str(tmp_path)})
    made.configure()
    yield made
    for process in made.processes:
        process.kill()
    if jobs := list({**made.jobs("RUNNING"), **made.jobs("PENDING")}.values()):
        made.slurm("scancel", *jobs)
