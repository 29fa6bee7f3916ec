"""``python -m coto.reproduce``: Snakemake, and then its report, however the last run ended.

What it adds to a bare ``snakemake``: the lock that a killed run has left is removed, under a lock
of the operating system, so that two runs cannot meet; the report is built anew only if something in
it has changed; jobs on this machine are forked off a server that has the libraries imported
(:mod:`coto.job_server`); and the verdicts are printed at the end.
"""

import argparse
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
from coto.compat import extended
from coto.errors import CotoError
from coto.findings.outcome import words
from coto.workflow import cluster
from coto.workflow.load import ConfigError, load

ROOT = Path(__file__).resolve().parents[1]
DRY_RUN = {"-n", "--dry-run", "--dryrun"}


def main(arguments: Sequence[str]) -> int:
    """Run the workflow with Snakemake's arguments, then build the report."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--wait", action="store_true")
    own, arguments = parser.parse_known_args(arguments)
    # Read here, and left for Snakemake.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", type=Path, default=[])
    files = parser.parse_known_args(arguments)[0].configfile
    state = Path(".snakemake")
    try:
        plan = load(ROOT / "config.yaml", *files)
        jobs = cluster.target(arguments)
        if jobs.is_slurm:
            cluster.check_slurm(jobs.settings)
        state.mkdir(exist_ok=True)
        with FileLock(state / "coto.lock", timeout=0):
            results = Path(plan.config.results)
            return _run(arguments, results, state, here=jobs.executor is None, wait=own.wait)
    except ConfigError as error:
        print(f"the configuration cannot be used:\n{error}", file=sys.stderr)
        return 2
    except CotoError as error:
        print(error, file=sys.stderr)
        return 2
    except Timeout:
        print("another run is at work in this folder; wait for it or stop it", file=sys.stderr)
        return 1


def _run(arguments: Sequence[str], results: Path, state: Path, *, here: bool, wait: bool) -> int:
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    if any((state / "locks").glob("*")):  # nobody else is here, so these are from a killed run
        # Its jobs may be alive on a cluster: a second copy of them would write the same files.
        if wait:
            cluster.wait_for(Path.cwd())
        elif left := _left_behind(here):
            ways = f"wait for them (--wait), which keeps their work, or: scancel {' '.join(left)}"
            print(f"{len(left)} jobs of an earlier run are in the queue: {ways}", file=sys.stderr)
            return 1
        subprocess.run([*snakemake, *arguments, "--unlock"], check=False, capture_output=True)
    served = sys.platform == "linux" and here and not DRY_RUN & set(arguments)
    server = serving(state / "job-server.log") if served else nullcontext()
    with server as variable:
        environment = {**os.environ, **(variable or {})}
        finished = subprocess.run([*snakemake, *arguments], check=False, env=environment)
    if finished.returncode:
        return finished.returncode
    report = results / "report.html"
    parts = [results / "claims.md", *results.glob("tables/*.csv"), *results.glob("figures/*.svg")]
    times = [path.stat().st_mtime for path in parts if path.is_file()]
    if times and (not report.is_file() or report.stat().st_mtime < max(times)):
        command = [*snakemake, *arguments, "--report", str(report)]
        built = subprocess.run(command, check=False, capture_output=True)
        if built.returncode:
            sys.stderr.write(built.stderr.decode(errors="replace"))
            return built.returncode
    if (results / "claims.json").is_file():
        words.show(results)
    elif times:
        print(f"report: {report}")
    return 0


def _left_behind(here: bool) -> list[str]:
    """Jobs of an earlier run on a cluster, as far as there is one that answers."""
    try:
        return cluster.jobs_left_behind(Path.cwd())
    except CotoError:
        if here:  # SLURM's programs without a cluster: nothing that runs here is its
            return []
        raise


@contextmanager
def serving(log: Path, preloaded: Sequence[str] = job_server.PRELOADED) -> Iterator[dict[str, str]]:
    """A job server with its own log for a block; yields the variable by which jobs find it."""
    with (
        tempfile.TemporaryDirectory(prefix="coto-") as private,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        log.open("w") as messages,
    ):
        path = f"{private}/jobs"
        listener.bind(path)
        listener.listen(128)  # jobs wait here until the server has imported
        environment = cli.environment(threads=1) | job_server.ENVIRONMENT
        server = subprocess.Popen(
            [sys.executable, "-m", job_server.__name__, str(listener.fileno()), *preloaded],
            env=environment | {"PYTHONPATH": extended(str(ROOT))},
            stdin=subprocess.PIPE,  # closed by the end of this process, however it ends
            stdout=messages,
            stderr=messages,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # a Ctrl-C is for the jobs' clients, who pass it on
        )
        listener.close()  # the server's alone: if it ends, its clients are turned away
        try:
            yield {job_server.VARIABLE: path}
        finally:
            server.kill()
            server.communicate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
