"""``python -m coto.reproduce``: Snakemake, and then its report, however the last run ended.

What it adds to a bare ``snakemake``: a killed run leaves Snakemake's own lock behind, which is
removed here, but only under a lock of the operating system, so that two runs cannot meet; and
the report is built anew when, and only when, something in it has changed. Jobs that run on this
machine are forked off a server that has the libraries imported already (:mod:`coto.job_server`).
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from coto import cli, job_server
from coto.config.load import ConfigError, load
from coto.handover import SERVER

ROOT = Path(__file__).resolve().parents[1]
# Snakemake's arguments with which no job runs, or jobs run elsewhere.
NOT_HERE = {"-n", "--dry-run", "--dryrun", "-e", "--executor", "--profile"}


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
    here = sys.platform == "linux" and not NOT_HERE & {a.partition("=")[0] for a in arguments}
    server = serving(state / "job-server.log") if here else nullcontext()
    with server as found:
        environment = {**os.environ, **(found or {})}
        finished = subprocess.run([*snakemake, *arguments], check=False, env=environment)
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


@contextmanager
def serving(log: Path, preloaded: Sequence[str] = job_server.PRELOADED) -> Iterator[dict[str, str]]:
    """A job server for the length of a block, importing while the block begins.

    Args:
        log: file for what the server has to say.
        preloaded: modules that it imports.

    Yields:
        The environment variable by which jobs find it.
    """
    with (
        tempfile.TemporaryDirectory(prefix="coto-") as private,
        socket.socket(socket.AF_UNIX) as listener,
        log.open("w") as said,
    ):
        path = f"{private}/jobs"
        listener.bind(path)
        listener.listen(128)  # jobs wait here until the server has imported
        server = subprocess.Popen(
            [sys.executable, "-m", job_server.__name__, str(listener.fileno()), *preloaded],
            env=cli.environment(threads=1) | job_server.ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,  # closed by the end of this process, however it ends
            stdout=said,
            stderr=said,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # a Ctrl-C is for the jobs' clients, who pass it on
        )
        listener.close()  # the server's alone: if it ends, its clients are turned away
        try:
            yield {SERVER: path}
        finally:
            server.kill()
            server.communicate()


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
