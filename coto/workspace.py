"""What a training keeps beside its outputs, so that a lost job loses no work."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from coto import record
from coto.settings import Model, canonical

log = logging.getLogger(__name__)

FOLDER = ".checkpoints"
"""Folder of all workspaces, under the results folder."""
_FINISHED, _COMPLETE = "finished", "complete.json"


class Workspace:
    """Folder of one training: its checkpoints, then all that it made.

    Snakemake deletes a job's outputs before it runs, and after it has failed; and a cluster may
    count a job as failed that did all its work, such as one that ended seconds past its time limit.
    So what a training made is first complete in here, and stays until the whole workflow is done:
    whoever gets the lock first, the next attempt or the twin of a job that a killed workflow left
    behind, takes it from here instead of training again.

    The folder, in the results folder `root`, is known by the job's settings and code, so another
    training never finds it.
    """

    def __init__(self, root: Path, settings: Model, code: str) -> None:
        key = hashlib.sha256(f"{canonical(settings)}{code}".encode()).hexdigest()[:16]
        self.folder = root / FOLDER / key
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "settings.json").write_text(settings.model_dump_json(indent=1))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other process trains the same."""
        from filelock import FileLock

        with FileLock(lock := self.folder.with_suffix(".lock")):
            try:
                yield
            finally:
                if not any(part.is_dir() for part in self.folder.iterdir()):  # nothing was kept
                    shutil.rmtree(self.folder)
                    lock.unlink()
                    with suppress(OSError):  # others are at work
                        self.folder.parent.rmdir()

    def drafts(self, outputs: Mapping[str, Path]) -> dict[str, Path]:
        """Where a training writes first, by the names of its outputs."""
        folder = self.folder / _FINISHED
        shutil.rmtree(folder, ignore_errors=True)
        return {name: folder / path.name for name, path in outputs.items()}

    def finish(self, drafts: Mapping[str, Path]) -> None:
        """Mark what was written to drafts as complete; the checkpoints are not needed any more."""
        digests = {name: record.digest(path) for name, path in drafts.items()}
        with record.atomic(self.folder / _FINISHED / _COMPLETE) as temporary:
            temporary.write_text(json.dumps(digests))
        for part in self.folder.iterdir():
            if part.name != _FINISHED and part.is_dir():
                shutil.rmtree(part)

    def hand_over(self, outputs: Mapping[str, Path]) -> bool:
        """Copy a finished training to a job's outputs; false if there is none that is whole."""
        drafts = self.folder / _FINISHED
        try:
            digests = json.loads((drafts / _COMPLETE).read_text())
            whole = {n: record.digest(drafts / p.name) for n, p in outputs.items()} == digests
        except (OSError, ValueError):
            return False
        if not whole:
            log.warning("%s: what was finished has changed since, and is made again", drafts)
            return False
        for path in outputs.values():
            _copy(drafts / path.name, path)
        return True


def forget_finished(root: Path) -> None:
    """Remove finished trainings, once the workflow has accepted their outputs."""
    for marker in root.glob(f"{FOLDER}/*/{_FINISHED}/{_COMPLETE}"):
        folder = marker.parents[1]
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".lock").unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder so that the target is whole or absent."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        temporary = target.with_name(f".{target.name}.partial")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source, temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    else:
        with record.atomic(target) as copy:
            shutil.copyfile(source, copy)
