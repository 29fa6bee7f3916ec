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

from coto.measurements.base import Cell
from coto.measurements.train import TRAIN
from coto.reproduce import ROOT, serving
from coto.settings import canonical
from coto.workflow.load import load

JOBS = 4


def main() -> None:
    """Print seconds per job of both ways and their ratio."""
    cell = Cell("glue", "", "movies", "lora", "coto", lr="0.008", seed="0")
    settings = canonical(TRAIN.build(load(ROOT / "config.yaml"), cell))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "coto", "train", "--settings", settings, "--root", folder]
        command += ["--outputs", *(f"{folder}/{name}" for name in TRAIN.outputs)]
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
