"""Data sets of the hub as ``datasets`` opens them: from the hub, or from a mirror of it."""

from pathlib import Path

from datasets import DatasetDict, config, load_dataset

from coto.errors import CotoError
from coto.tasks.mirror import content_digest, mirror_files
from coto.tasks.task import Task


def open_tables(task: Task, mirror: Path | None, cache: Path | None) -> DatasetDict:
    """Split -> table of a task that is a data set of the hub.

    Args:
        task: With ``hub_path`` and ``hub_config``.
        mirror: Directory laid out as the hub; None asks the hub itself.
        cache: Where ``datasets`` keeps its tables; None for its default.

    Raises:
        CotoError: The hub cannot be reached, or the mirror lacks the task.
    """
    if mirror is None:
        repository, directory = task.hub_path, cache
    else:
        # `datasets` keys a mirror's cache by its README alone: changed data, or another mirror with
        # the same README, would give the old rows. The directory is therefore keyed by content.
        files = mirror_files(task, mirror)
        root = cache or Path(config.HF_DATASETS_CACHE) / "mirror"
        repository, directory = str(mirror / task.hub_path), root / content_digest(files)
    try:
        return load_dataset(
            repository,
            task.hub_config or None,
            cache_dir=None if directory is None else str(directory),
        )
    # What is raised depends on what is wrong with the network or the files; all are the user's to
    # mend and none is ours to debug.
    except Exception as error:
        hint = "" if mirror else "; give a mirror of the hub as data.mirror, or use offline tasks"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise CotoError(
            f"task {task.name}: cannot read {repository} ({task.hub_config or 'default'}): "
            f"{type(error).__name__}: {reason}{hint}"
        ) from error


def where(task: Task, mirror: Path | None) -> str:
    """The task and the place of its data, to begin an error with."""
    return f"task {task.name}: {mirror / task.hub_path if mirror else task.hub_path}"


def require_splits(task: Task, tables: DatasetDict, mirror: Path | None, *splits: str) -> None:
    """Refuse tables without one of `splits`."""
    for split in splits:
        if split not in tables:
            raise CotoError(
                f"{where(task, mirror)} has no split {split!r}, it has {', '.join(tables)}"
            )
