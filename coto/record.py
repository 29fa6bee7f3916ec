"""Records: one JSON file per job, with everything needed to trust its numbers."""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "peft", "datasets", "evaluate", "numpy", "pandas")
_START = time.monotonic()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes private files
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write(
    path: Path,
    stage: str,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    compute: Mapping[str, Any] | None = None,
    **more: Any,
) -> None:
    """Write a job's record atomically.

    Args:
        path: of the JSON file.
        stage: name of the stage.
        settings: exactly what the job read.
        rows: results, one flat mapping each; the report concatenates them.
        compute: device, precision and threads, where the job used a model.
        more: further top-level entries.
    """
    record = {
        "stage": stage,
        "settings": settings,
        "environment": environment() | dict(compute or {}),
        "rows": list(rows),
        **more,
    }
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a record back."""
    return json.loads(path.read_text())


def environment() -> dict[str, Any]:
    """Versions, commit, hardware, time and memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "commit": _commit(),
        "hardware": _processor(),
        "cpus": os.cpu_count(),
        "wall_s": round(time.monotonic() - _START, 2),
        # Linux counts KiB, macOS bytes.
        "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
    }


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    """The checkout's commit, with a mark if it has changes; none for an installed package."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
