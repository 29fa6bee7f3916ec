"""Rows of image tasks: ``image`` (the bytes of an image file), ``label`` and ``idx``.

Every split's ``attrs["class_names"]`` has the names of the classes by label.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from coto.errors import CotoError
from coto.tasks import images_coop, images_hub, images_made
from coto.tasks.image_files import check
from coto.tasks.images import RENAMED, ImageTask
from coto.tasks.splits import SPLITS, check_limits

Frames = dict[str, pd.DataFrame]


def load(
    task: ImageTask,
    *,
    corpora: Path | None = None,
    mirror: Path | None = None,
    limits: Mapping[str, int | None] | None = None,
    cache: Path | None = None,
) -> Frames:
    """Rows of an image task.

    Args:
        task: Entry of :data:`coto.tasks.images.IMAGE_TASKS`.
        corpora: Not read: no image task is made of texts.
        mirror: Directory laid out as the hub; None asks the hub itself.
        limits: Most rows per split; none or null takes all. Rows come in the order of a hash, so a
            smaller limit gives a subset, of every class about its share.
        cache: Where ``datasets`` keeps its tables; None for its default.

    Returns:
        Split -> rows. No image is in two splits, except where a published split has it so.

    Raises:
        CotoError: Missing source, a file that is no image, or a label that the task does not have.
    """
    sizes = check_limits(limits)
    if task.source == "made":
        frames, names = images_made.rows(task)
    elif task.files:
        frames, names = images_coop.rows(task, mirror, sizes)
    else:
        frames, names = images_hub.rows(task, mirror, cache, sizes)
    result = {}
    for split in SPLITS:
        frame = frames[split].sort_values("order", kind="stable").iloc[: sizes[split]]
        frame = frame[["image", "label", "idx"]].reset_index(drop=True)
        _check(task, split, frame, len(names))
        frame = frame.astype({"label": "int64", "idx": "int64"})
        frame.attrs["class_names"] = [readable(name) for name in names]
        result[split] = frame
    return result


def readable(name: str) -> str:
    """A class name as a prompt can have it: CoOp's words, spaces for underscores, no synonyms."""
    return RENAMED.get(name, name.split(",")[0].replace("_", " ").strip())


def _check(task: ImageTask, split: str, frame: pd.DataFrame, classes: int) -> None:
    if frame.empty:
        raise CotoError(f"task {task.name}: no row is left in {split}")
    for content, label, idx in frame.itertuples(index=False):
        name = f"task {task.name}: image {idx} of {split}"
        if not 0 <= label < classes:
            raise CotoError(f"{name} has label {label}, expected 0 to {classes - 1}")
        check(content, name)
