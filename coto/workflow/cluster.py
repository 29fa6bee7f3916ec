"""What is checked before jobs go to a cluster: the profile, its executor, and jobs left behind."""

import os
import shutil
import subprocess
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from coto.errors import CotoError

PREFIX = "coto"
"""How the names of this workflow's SLURM jobs begin (``slurm-jobname-prefix`` of the profile)."""
# Snakemake prefers the file that names its version.
_FILES = ("config.v9+.yaml", "config.v8+.yaml", "config.yaml")
_PROFILES = (Path("~/.config/snakemake"), Path("/etc/xdg/snakemake"))


@dataclass(frozen=True)
class Target:
    """Where Snakemake's arguments let jobs run: the executor, None for this machine's own."""

    executor: str | None
    settings: Mapping[str, Any]

    @property
    def is_slurm(self) -> bool:
        """Whether jobs go to SLURM."""
        return self.executor == "slurm"


def target(arguments: Sequence[str]) -> Target:
    """Read where jobs will run from Snakemake's arguments and the profiles that they name.

    Raises:
        CotoError: if a profile that the arguments name is not there or cannot be read.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--profile", "--workflow-profile"):
        parser.add_argument(option)
    parser.add_argument("-e", "--executor")
    found = parser.parse_known_args(list(arguments))[0]
    settings: dict[str, Any] = {}
    for option in ("profile", "workflow_profile"):
        name = getattr(found, option)
        if name not in (None, "none"):
            settings |= _profile(f"--{option.replace('_', '-')}", name)
    return Target(found.executor or settings.get("executor"), settings)


def check_slurm(settings: Mapping[str, Any]) -> None:
    """Check that jobs can be handed to SLURM from here.

    Raises:
        CotoError: if the plugin or the client programs are missing, or there is no such partition.
    """
    if find_spec("snakemake_executor_plugin_slurm") is None:
        install = "pip install -c envs/constraints.txt '.[slurm]'"
        raise CotoError(f"executor = 'slurm': its plugin is not installed, expected `{install}`")
    if shutil.which("sbatch") is None:
        expected = "expected a node that can submit jobs, such as the login node"
        raise CotoError(f"executor = 'slurm': there is no sbatch on this machine, {expected}")
    wanted = _resources(settings).get("slurm_partition")
    if wanted is not None:
        known = sorted({name.rstrip("*") for name in _ask("sinfo", "--noheader", "--format=%P")})
        missing = [name for name in str(wanted).split(",") if name not in known]
        if missing:
            expected = f"expected one of this cluster's: {', '.join(known)}"
            raise CotoError(f"slurm_partition = {missing[0]!r}: {expected}")


def jobs_left_behind(folder: Path) -> list[str]:
    """Ids of this workflow's SLURM jobs in the queue that were started in a folder."""
    if shutil.which("squeue") is None:
        return []
    rows = (row.split("|") for row in _ask("squeue", "--me", "--noheader", "--format=%A|%j|%Z"))
    return sorted(
        {i for i, name, at in rows if name.startswith(f"{PREFIX}_") and at == str(folder)}
    )


def wait_for(folder: Path, seconds: float = 10.0) -> None:
    """Wait until no job of :func:`jobs_left_behind` is in the queue, which keeps their work."""
    while jobs := jobs_left_behind(folder):
        print(f"waiting for {len(jobs)} jobs of an earlier run: {' '.join(jobs)}", flush=True)
        time.sleep(seconds)


def _profile(option: str, name: str) -> dict[str, Any]:
    folders = (Path(name), *(base.expanduser() / name for base in _PROFILES))
    files = [folder / file for folder in folders for file in _FILES if (folder / file).is_file()]
    if not files:
        raise CotoError(f"{option} = {name!r}: expected a folder with a {_FILES[-1]}")
    try:
        content = yaml.safe_load(files[0].read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise CotoError(f"{option} = {name!r}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise CotoError(f"{option} = {name!r}: expected a mapping at the top level")
    return content


def _resources(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """A profile's resources of all jobs: a mapping, or a list of ``name=value``."""
    given = settings.get("default-resources") or {}
    if isinstance(given, Mapping):
        return given
    return dict(item.split("=", 1) for item in given if "=" in item)


def _ask(*command: str) -> list[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        message = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[0]
        raise CotoError(f"{command[0]}: SLURM does not answer ({message})") from None
    return done.stdout.split("\n")[:-1]
