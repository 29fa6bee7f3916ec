"""One real run of the smoke configuration, in a copy of the project, for all workflow tests."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.workflow.planned import Planned

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ("Snakefile", "rules", "coto", "config.yaml", "configs", "profiles", "envs")


def copy_project(folder: Path) -> Path:
    """Copy what a run needs into a folder; returns it."""
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    return folder


@dataclass(frozen=True)
class Checkout:
    """A copy of the project that tests may edit and run."""

    root: Path

    def run(self, *arguments: str, module: str = "snakemake") -> subprocess.CompletedProcess[str]:
        """Run a module of Python in the checkout."""
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
        )

    def snakemake(
        self, *arguments: str, configs: Sequence[str] = ()
    ) -> subprocess.CompletedProcess:
        """Run Snakemake with the smoke configuration and further ones over it."""
        return self.run(*arguments, "--configfile", "configs/smoke.yaml", *configs)

    def planned(self, *configs: str) -> set[Planned]:
        """The jobs that would run, without the one that only names the targets."""
        done = self.snakemake("--dry-run", "--quiet", "host", "progress", configs=configs)
        assert done.returncode == 0, done.stdout + done.stderr
        jobs, rule = set(), None
        for block in re.split(r"^(?=(?:local)?rule )", done.stdout + done.stderr, flags=re.M)[1:]:
            rule = re.match(r"(?:local)?rule (\w+):", block)[1]
            found = re.search(r"^ +wildcards: (.*)$", block, flags=re.M)
            pairs = [item.split("=", 1) for item in found[1].split(", ")] if found else []
            jobs.add(Planned(rule, frozenset((k, v) for k, v in pairs)))
        return {job for job in jobs if job.rule not in ("all", "tables", "figures")}


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the project."""
    return Checkout(copy_project(tmp_path_factory.mktemp("checkout")))


@pytest.fixture(scope="session")
def every_job(checkout: Checkout) -> set[Planned]:
    """What a first run does, asked before there is one."""
    return checkout.planned()


@pytest.fixture(scope="session")
def finished(checkout: Checkout, every_job: set[Planned]) -> Checkout:
    """The same copy after a complete run."""
    done = checkout.run("--configfile", "configs/smoke.yaml", module="coto.reproduce")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return checkout
