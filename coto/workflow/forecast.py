"""``python -m coto plan``: what would run and why, and what it takes, from what was measured.

Which jobs run is Snakemake's own answer. How long one takes is the mean of the finished jobs of
its kind and suite, as Snakemake measured them; of its kind in all suites, where its own suite has
none; and where there is none at all it is counted as unknown, not guessed.
"""

import argparse
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from tabulate import tabulate

from coto.compat import extended
from coto.errors import CotoError
from coto.workflow.load import load

ROOT = Path(__file__).resolve().parents[2]
# Rules that only name targets.
_TARGETS = {"all", "tables", "figures"}


@dataclass(frozen=True)
class Planned:
    """A job that would run, as Snakemake announces it."""

    rule: str
    suite: str
    reason: str
    threads: int
    gpus: int
    benchmark: str
    outputs: tuple[str, ...]


@dataclass
class Measured:
    """Seconds and bytes of finished jobs by (rule, suite); the suite is empty for report jobs."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    disk: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))

    def seconds_of(self, rule: str, suite: str) -> float | None:
        """Mean seconds of a job; None if no job of its kind was measured."""
        return _typical(self.seconds, rule, suite)

    def disk_of(self, rule: str, suite: str) -> float | None:
        """Mean bytes of a job's outputs."""
        return _typical(self.disk, rule, suite)

    def error(self) -> float | None:
        """How far off the forecast of each finished job's seconds by the others is, all together.

        Sum of absolute errors over the sum of seconds: 0.1 is ten percent.
        """
        off = total = 0.0
        for values in self.seconds.values():
            for i, actual in enumerate(values):
                if others := values[:i] + values[i + 1 :]:
                    off += abs(fmean(others) - actual)
                    total += actual
        return off / total if total else None


def main(arguments: Sequence[str]) -> int:
    """Print the forecast; arguments that are not its own go to Snakemake."""
    parser = argparse.ArgumentParser(prog="python -m coto plan", description=__doc__)
    parser.add_argument("--configfile", nargs="+", type=Path, default=[], help="over config.yaml")
    parser.add_argument(
        "--measured", nargs="+", type=Path, default=[], help="results folders with finished jobs"
    )
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="of the machine")
    own, rest = parser.parse_known_args(list(arguments))
    plan = load(ROOT / "config.yaml", *own.configfile)
    results = Path(plan.config.results)
    configs = ["--configfile", *map(str, own.configfile)] if own.configfile else []
    jobs = list(planned([*rest, *configs]))
    measured = measure([results, *own.measured], plan.config.suites)
    print(render(jobs, measured, own.cores))
    return 0


def planned(arguments: Sequence[str]) -> Iterator[Planned]:
    """The jobs that Snakemake would run with these arguments.

    Raises:
        CotoError: if it cannot plan them.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    quiet = ["--dry-run", "--quiet", "host", "progress"]
    environment = {**os.environ, "PYTHONPATH": extended(str(ROOT))}
    done = subprocess.run(
        [*command, *arguments, *quiet], capture_output=True, text=True, env=environment
    )
    output = done.stdout + done.stderr
    if done.returncode:
        raise CotoError(output.strip())
    for block in re.split(r"^(?=(?:local)?rule \w+:$)", output, flags=re.M)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)[1]  # type: ignore[index]
        entries = dict(re.findall(r"^    (\w+): (.*)$", block, flags=re.M))
        if rule in _TARGETS or "output" not in entries:
            continue
        wildcards = dict(p.split("=", 1) for p in entries.get("wildcards", "").split(", ") if p)
        resources = dict(p.split("=", 1) for p in entries["resources"].split(", ") if "=" in p)
        yield Planned(
            rule=rule,
            suite=wildcards.get("suite", ""),
            reason=_kind_of(entries.get("reason", "")),
            threads=int(entries.get("threads", "1")),
            gpus=int(resources.get("gpu", "0")),
            benchmark=entries.get("benchmark", ""),
            outputs=tuple(entries["output"].split(", ")),
        )


def measure(folders: Iterable[Path], suites: Iterable[str]) -> Measured:
    """Read the times of finished jobs, and the sizes of their records' folders."""
    found, known = Measured(), set(suites)
    for folder in dict.fromkeys(folders):
        for file in sorted(folder.glob("benchmarks/**/*.tsv")):
            parts = file.relative_to(folder / "benchmarks").with_suffix("").parts
            suite = parts[1] if len(parts) > 1 and parts[1] in known else ""
            lines = file.read_text().splitlines()
            found.seconds[parts[0], suite] += [float(line.split("\t")[0]) for line in lines[1:]]
        for adapter in folder.glob("*/*/*/lr*/seed*/adapter"):
            run = adapter.parent
            size = sum(p.stat().st_size for p in run.rglob("*") if p.is_file())
            found.disk["train", run.relative_to(folder).parts[0]].append(size)
    return found


def render(jobs: Sequence[Planned], measured: Measured, cores: int) -> str:
    """The forecast as a person reads it."""
    if not jobs:
        return "nothing to run: everything is there"
    groups: dict[tuple[str, str], list[Planned]] = defaultdict(list)
    for job in jobs:
        groups[job.rule, job.suite].append(job)
    lines, core_seconds, unknown = [], 0.0, 0
    for (rule, suite), group in groups.items():
        seconds, disk = measured.seconds_of(rule, suite), measured.disk_of(rule, suite)
        cpu = None if seconds is None else seconds * sum(job.threads for job in group)
        gpu = None if seconds is None else seconds * sum(job.gpus for job in group)
        core_seconds += cpu or 0.0
        unknown += len(group) if cpu is None else 0
        size = None if disk is None else disk * len(group) / 2**20
        lines.append([rule, suite, len(group), _hours(cpu), _hours(gpu), size])
    headers = ["job", "suite", "jobs", "core-hours", "GPU-hours", "disk (MiB)"]
    table = tabulate(lines, headers, floatfmt=(*("",) * 3, ".2f", ".2f", ".0f"), missingval="?")
    reasons = Counter(job.reason for job in jobs)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    total = f"{core_seconds / 3600:.2f} core-hours, about {_clock(core_seconds / cores)} on {cores}"
    parts = [table, f"\n{len(jobs)} jobs: {why}", f"{total} cores"]
    if unknown:
        parts.append(f"{unknown} jobs are of a kind that was never measured and are not counted")
    if (error := measured.error()) is not None:
        parts.append(
            f"each finished job, forecast from the others, is off by {error:.0%} on average"
        )
    return "\n".join(parts)


def _typical(
    values: Mapping[tuple[str, str], Sequence[float]], rule: str, suite: str
) -> float | None:
    if own := values.get((rule, suite)):
        return fmean(own)
    others = [value for (name, _), many in values.items() if name == rule for value in many]
    return fmean(others) if others else None


def _kind_of(reason: str) -> str:
    for start, kind in (
        ("Missing output", "whose output is missing"),
        ("Code has changed", "whose code changed"),
        ("Params have changed", "whose settings or code changed"),
        ("Set of input files", "whose inputs are others now"),
        ("Updated input", "whose inputs changed"),
        ("Input files updated by", "after other jobs"),
    ):
        if start in reason:
            return kind
    return reason or "asked for"


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


def _clock(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
