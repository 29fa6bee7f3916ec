"""Image tasks in CoOp's layout: a folder of pictures, and a split that names files, in JSON.

``split_zhou_<set>.json`` has ``train``, ``val`` and ``test``, lists of [file, label, class name].
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from coto.errors import CotoError
from coto.tasks.images import ImageTask
from coto.tasks.mirror import mirror_files
from coto.tasks.splits import digest

_PARTS = {"train": "train", "validation": "val", "test": "test"}


def rows(
    task: ImageTask, mirror: Path | None, sizes: Mapping[str, int | None]
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Split -> rows ``image``, ``label``, ``idx`` and ``order``; and the classes' names.

    Raises:
        CotoError: No mirror, no split file, a split file of another shape, or a missing picture.
    """
    if mirror is None:
        raise CotoError(
            f"task {task.name}: the hub has no copy with CoOp's split, expected a data.mirror "
            f"with {task.files[0]} and the pictures in {task.pictures}"
        )
    (file,) = mirror_files(task, mirror)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = {
            split: pd.DataFrame(
                [(str(path), int(label), str(name)) for path, label, name in content[part]],
                columns=["file", "label", "name"],
            )
            for split, part in _PARTS.items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise CotoError(
            f"task {task.name}: {file} is no split of CoOp ({type(error).__name__}), "
            "expected train, val and test, lists of [file, label, class name]"
        ) from None
    names = _names(task, file, pd.concat(parts.values()))
    folder = mirror / task.pictures
    frames = {}
    for split, frame in parts.items():
        frame = frame.assign(idx=frame.index, order=[digest("file", f) for f in frame["file"]])
        frame = frame.sort_values("order", kind="stable").iloc[: sizes[split]]
        frames[split] = frame.assign(image=[_read(task, folder / f) for f in frame["file"]])
    return frames, names


def _names(task: ImageTask, file: Path, rows: pd.DataFrame) -> list[str]:
    by_label = rows.groupby("label")["name"].agg(["nunique", "first"])
    labels = by_label.index.to_list()
    if labels != list(range(len(labels))) or (by_label["nunique"] != 1).any():
        raise CotoError(
            f"task {task.name}: {file}: labels {labels[:5]}…, expected 0, 1, … with a name each"
        )
    return by_label["first"].to_list()


def _read(task: ImageTask, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CotoError(
            f"task {task.name}: {path} cannot be read ({error.strerror}), the split names it"
        ) from None
