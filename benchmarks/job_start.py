"""``python -m benchmarks.job_start``: jobs that only import, by the job server and by themselves.

The peer is a plain ``python -m coto``, which imports torch and the rest anew. The job is one that
fails at once for want of its rows, after all imports.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from coto.config.load import load
from coto.config.plan import Plan
from coto.reproduce import ROOT, serving

JOBS = 4


def main() -> None:
    """Print seconds per job of both ways and their ratio."""
    plan = Plan(load(ROOT / "config.yaml"))
    settings = plan.train("glue", "movies", "lora", "coto", "0.008", "0")
    with tempfile.TemporaryDirectory() as folder:
        outputs = ("adapter", "answers", "gradients", "out")
        command = [sys.executable, "-m", "coto", "train", "--settings", settings, "--root", folder]
        command += [part for name in outputs for part in (f"--{name}", f"{folder}/{name}")]
        plain = _seconds(command, {})
        with serving(Path(folder) / "server.log") as environment:
            _seconds(command, environment, jobs=1)  # waits for the server's own imports
            served = _seconds(command, environment)
    print(f"by itself: {plain:.2f} s a job")
    print(f"by the job server: {served:.2f} s a job, {plain / served:.1f} times the speed")


def _seconds(command: list[str], environment: dict[str, str], jobs: int = JOBS) -> float:
    begun = time.perf_counter()
    for _ in range(jobs):
        done = subprocess.run(
            command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == 2, done.stderr.decode()
    return (time.perf_counter() - begun) / jobs


if __name__ == "__main__":
    main()
