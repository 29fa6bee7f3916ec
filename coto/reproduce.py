"""``python -m coto.reproduce``: Snakemake, and then its report, however the last run ended.

What it adds to a bare ``snakemake``: a killed run leaves Snakemake's own lock behind, which is
removed here, but only under a lock of the operating system, so that two runs cannot meet; and
the report is built anew when, and only when, something in it has changed.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from coto.config.load import ConfigError, load

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str]) -> int:
    """Run the workflow with Snakemake's arguments, then build the report."""
    try:
        files = _config_files(arguments)
        results = Path(load(ROOT / "config.yaml", *files).results)
    except ConfigError as error:
        print(f"the configuration cannot be used:\n{error}", file=sys.stderr)
        return 2
    state = Path(".snakemake")
    state.mkdir(exist_ok=True)
    try:
        with FileLock(state / "coto.lock", timeout=0):
            return _run(arguments, results, state)
    except Timeout:
        print("another run is at work in this folder; wait for it or stop it", file=sys.stderr)
        return 1


def _run(arguments: Sequence[str], results: Path, state: Path) -> int:
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    if any((state / "locks").glob("*")):  # nobody else is here, so these are from a killed run
        subprocess.run([*snakemake, *arguments, "--unlock"], check=False, capture_output=True)
    finished = subprocess.run([*snakemake, *arguments], check=False)
    if finished.returncode:
        return finished.returncode
    report = results / "report.html"
    made = [results / "claims.md", *results.glob("tables/*.csv"), *results.glob("figures/*.svg")]
    times = [path.stat().st_mtime for path in made if path.is_file()]
    if times and (not report.is_file() or report.stat().st_mtime < max(times)):
        built = subprocess.run(
            [*snakemake, *arguments, "--report", str(report)], check=False, capture_output=True
        )
        if built.returncode:
            sys.stderr.write(built.stderr.decode(errors="replace"))
            return built.returncode
    if times:
        print(f"claims: {results / 'claims.md'}\nreport: {report}")
    return 0


def _config_files(arguments: Sequence[str]) -> list[Path]:
    """The files after ``--configfile``."""
    files: list[Path] = []
    reading = False
    for argument in arguments:
        if argument.startswith("-"):
            name, _, value = argument.partition("=")
            reading = name in ("--configfile", "--configfiles")
            if reading and value:
                files.append(Path(value))
        elif reading:
            files.append(Path(argument))
    return files


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
