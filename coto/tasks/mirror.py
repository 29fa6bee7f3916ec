"""A mirror: a directory laid out as the hub, ``<mirror>/<repository>/`` and its data.

Light (no ``datasets``, no pandas): the workflow declares the files of a task as inputs of its jobs.
"""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from coto.errors import CotoError
from coto.tasks.task import Task


def mirror_files(task: Task, mirror: Path) -> list[Path]:
    """The files that ``task`` reads below ``mirror``.

    Returns:
        The plain files of the task in its own order; or else the README of its repository, which
        says where the data are, then the data, sorted.

    Raises:
        CotoError: No such mirror, or it lacks the repository, the configuration or its data.
    """
    where = f"task {task.name}"
    if not mirror.is_dir():
        raise CotoError(f"{where}: data.mirror {str(mirror)!r} is no directory, expected a mirror")
    if task.files:
        paths = [mirror / file for file in task.files]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            more = [str(path.relative_to(mirror)) for path in missing[1:]]
            others = f"; so are {', '.join(more)}" if more else ""
            raise CotoError(f"{where}: {missing[0]} is missing, expected the file there{others}")
        return paths
    repository = mirror / task.hub_path
    readme = repository / "README.md"
    if not readme.is_file():
        raise CotoError(
            f"{where}: {readme} is missing, expected the hub's layout of {task.hub_path}"
        )
    configs = _configs(where, readme)
    if task.hub_config not in configs:
        raise CotoError(
            f"{where}: {readme} has no config {task.hub_config!r}, "
            f"it has {', '.join(sorted(configs)) or 'none'}"
        )
    files: set[Path] = set()
    for pattern in configs[task.hub_config]:
        matched = sorted(path for path in repository.glob(pattern) if path.is_file())
        if not matched:
            raise CotoError(f"{where}: {repository / pattern} is missing, {readme} declares it")
        files.update(matched)
    return [readme, *sorted(files)]


def content_digest(files: list[Path]) -> str:
    """Hash of the files' names and bytes, to key caches by."""
    state = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        state.update(f"{path.name} {content}\n".encode())
    return state.hexdigest()[:16]


def _configs(where: str, readme: Path) -> dict[str, list[str]]:
    """Configuration name -> patterns of its data files, from the README's YAML header."""
    parts = readme.read_text(encoding="utf-8").split("---", 2)
    try:
        header = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else {}
        entries = header.get("configs", [])
        return {entry["config_name"]: _patterns(entry["data_files"]) for entry in entries}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise CotoError(
            f"{where}: {readme} has no readable `configs:` header ({type(error).__name__}), "
            "expected config_name and data_files of each"
        ) from error


def _patterns(data_files: Any) -> list[str]:
    """Flatten the header's forms: a pattern, a list of them, or a list of {split, path}."""
    if isinstance(data_files, str):
        return [data_files]
    if isinstance(data_files, dict):
        return _patterns(data_files["path"]) if "path" in data_files else []
    return [pattern for entry in data_files for pattern in _patterns(entry)]
