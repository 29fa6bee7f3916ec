"""Records: one JSON file per job, with everything needed to trust its numbers."""

import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from coto.errors import CotoError

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

    It has the settings, exactly what the job read; its results, one flat mapping each, which the
    report concatenates; device, precision and threads, where the job used a model; and `more`.
    """
    record: dict[str, Any] = {"stage": stage, "settings": settings}
    record |= {"environment": environment() | dict(compute or {}), "rows": list(rows), **more}
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a record back."""
    return json.loads(path.read_text())


def read_json(path: Path) -> Any:
    """The content of a JSON file that somebody may have changed or cut off.

    Raises:
        CotoError: if it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CotoError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CotoError(f"{path}: not valid JSON, perhaps half-written ({error})") from error


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(path: Path) -> str:
    """Hash of a file's content, or of all files directly in a folder with their names.

    Hidden files do not count: Snakemake leaves its time stamp in folders that it watches.
    """
    if not path.is_dir():
        return hashlib.sha256(bytes.fromhex(sha256(path))).hexdigest()
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    content = b"".join(file.name.encode() + bytes.fromhex(sha256(file)) for file in files)
    return hashlib.sha256(content).hexdigest()


def environment() -> dict[str, Any]:
    """Versions, commit, hardware, time and memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "packages": dict(_versions()),
        "python": platform.python_version(),
        "commit": _commit(),
        "hardware": processor(),
        "cpus": os.cpu_count(),
        "wall_s": round(time.monotonic() - _START, 2),
        # Linux counts KiB, macOS bytes.
        "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
    }


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def _commit() -> str | None:
    """The checkout's commit, with a mark if it has changes; none for an installed package."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 10}
    with suppress(OSError, subprocess.TimeoutExpired):
        described = subprocess.run(command, cwd=Path(__file__).parent, **options)
        return described.stdout.strip() or None
    return None


@cache
def processor() -> str:
    """The CPU as its maker calls it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
