"""What the workflow costs around its jobs: ``python -m benchmarks workflow``.

Each figure has a peer that does the least of the same thing: Snakemake's own start, an interpreter
that imports what a training imports, a job that imports for itself. How busy a finished run kept
its cores is read from the records and logs of a results folder.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pydantic import Field

from benchmarks.common.harness import BENCHMARKS, Bench, Benchmark, Row, Way, alternate
from coto.errors import CotoError
from coto.measurements import MEASUREMENTS
from coto.measurements.base import Cell
from coto.measurements.train import TRAIN
from coto.reproduce import ROOT, serving
from coto.settings import Model, Positive, canonical
from coto.workflow.load import load

_SNAKEMAKE = (sys.executable, "-m", "snakemake")
# What a training job imports before its first step.
_IMPORTS = "import coto, torch, transformers, peft, datasets, pandas, coto.measurements.training"


class Settings(Model):
    """What is started, and which finished run is looked at."""

    dry_runs: tuple[str, ...] = Field(
        ("config.yaml", "configs/paper.yaml"), description="Configurations that are planned."
    )
    finished: tuple[str, ...] = Field(
        (), description="Configuration of a finished run: its no-op is timed. None: the default."
    )
    results: str = Field("results", description="Results folder of the finished run.")
    cores: Positive = Field(2, description="Cores that the finished run was given.")


def run(bench: Bench[Settings]) -> list[Row]:
    """Rows of starting, planning and doing nothing; then how busy the cores were."""
    settings = bench.settings
    rows = _starts(bench)
    with tempfile.TemporaryDirectory() as empty:
        ways: dict[str, Way] = {"snakemake --version": lambda: _seconds([*_SNAKEMAKE, "--version"])}
        for file in settings.dry_runs:
            command = [*_SNAKEMAKE, "-n", "--quiet", "--snakefile", str(ROOT / "Snakefile")]
            command += ["--cores", "1", "--directory", empty, "--configfile", str(ROOT / file)]
            ways[f"dry-run, {file}"] = partial(_seconds, command)
        if _is_complete(settings):
            ways["nothing to do"] = lambda: _seconds(_reproduce(settings))
        timings = alternate(ways, bench.rounds)
        least = next(iter(ways))
        rows += [timings.row("wall time", way, least) for way in ways if way != least]
    if "nothing to do" not in ways:
        note = f"{settings.results!r} is not the finished run of this configuration and code"
        rows.append({"case": "wall time", "way": "nothing to do", "note": note})
    return rows + _busy(Path(settings.results), settings.cores)


def _starts(bench: Bench[Settings]) -> list[Row]:
    """A job that fails for want of its rows, after all imports, alone and off the server."""
    cell = Cell("glue", "", "movies", "lora", "coto", lr="0.008", seed="0")
    settings = canonical(TRAIN.build(load(ROOT / "config.yaml"), cell))
    with tempfile.TemporaryDirectory() as folder:
        job = [sys.executable, "-m", "coto", "train", "--settings", settings, "--root", folder]
        job += ["--outputs", *(f"{folder}/{name}" for name in TRAIN.outputs)]
        with serving(Path(folder) / "server.log") as served:
            _seconds(job, served, code=2)  # waits for the server's own imports
            ways: dict[str, Way] = {
                "by itself": lambda: _seconds(job, code=2),
                "by the job server": lambda: _seconds(job, served, code=2),
            }
            wall = alternate(ways, bench.rounds)
        # On the processor's clock, which other work on the machine does not move.
        cpu: dict[str, Way] = {
            "start of a training": lambda: _cpu_seconds(job, code=2),
            "its imports": lambda: _cpu_seconds([sys.executable, "-c", _IMPORTS]),
        }
        spent = alternate(cpu, bench.rounds)
    return [
        wall.row("wall time", "by itself", "by the job server"),
        spent.row("processor time", "start of a training", "its imports"),
    ]


def _seconds(command: Sequence[str], more: Mapping[str, str] | None = None, code: int = 0) -> None:
    """Run a command to its end; CotoError if it does not end as it should."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(more or {})}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False)
    if done.returncode != code:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise CotoError(f"{' '.join(command[:4])}: ended with {done.returncode}: {last}")


def _cpu_seconds(command: Sequence[str], code: int = 0) -> float:
    """Processor seconds of a command and of what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _seconds(command, code=code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _reproduce(settings: Settings) -> list[str]:
    files = ["--configfile", *settings.finished] if settings.finished else []
    return [sys.executable, "-m", "coto.reproduce", *files]


def _is_complete(settings: Settings) -> bool:
    """Whether the run has nothing left to do: else its no-op would run it."""
    command = [*_reproduce(settings), "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


def _busy(results: Path, cores: int) -> list[Row]:
    """Core-seconds of a finished run's jobs over those that its cores had.

    Snakemake writes a job's benchmark file as the job ends; the file's time less its seconds is the
    beginning. A measurement that has the machine to itself counts with all cores, others with one.
    """
    jobs = []
    for file in sorted(results.glob("benchmarks/*/**/*.tsv")):
        seconds = float(file.read_text().splitlines()[1].split("\t")[0])
        measurement = MEASUREMENTS.get(file.relative_to(results).parts[1])
        threads = cores if measurement is not None and measurement.alone else 1
        end = file.stat().st_mtime
        jobs.append((end - seconds, end, seconds, threads))
    if not jobs:
        return [{"case": "cores busy", "note": f"{str(results)!r} has no benchmark files of jobs"}]
    span = max(end for _, end, _, _ in jobs) - min(begun for begun, _, _, _ in jobs)
    spent = sum(seconds * threads for _, _, seconds, threads in jobs)
    if spent > 1.05 * span * cores:
        note = f"{str(results)!r} is a copy: its files' times are not those of the run"
        return [{"case": "cores busy", "note": note}]
    return [
        {
            **{"case": "cores busy", "way": f"{len(jobs)} jobs", "against": f"{cores} cores"},
            **{"ratio": spent / (span * cores), "low": None, "high": None, "rounds": 1},
            **{"seconds": span, "longest_job": max(seconds for _, _, seconds, _ in jobs)},
        }
    ]


BENCHMARKS.add(
    Benchmark(
        name="workflow",
        summary="planning, starting and doing nothing; how busy a finished run kept its cores",
        settings=Settings,
        run=run,
    )
)
