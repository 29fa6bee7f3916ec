"""Image tasks of the hub, or of a mirror of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
from datasets import ClassLabel, Dataset, Image

from coto.errors import CotoError
from coto.tasks.image_files import content_key
from coto.tasks.images import ImageTask
from coto.tasks.splits import VALIDATION_SHARE
from coto.tasks.tables import open_tables, require_splits, where


def rows(
    task: ImageTask, mirror: Path | None, cache: Path | None, sizes: Mapping[str, int | None]
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Split -> rows ``image``, ``label``, ``idx`` and ``order``; and the classes' names.

    An image that comes twice is kept once, and not at all in training if it is reported on.
    Without a validation part a tenth of every training class is cut off, by the images' hashes. All
    images are hashed, but only those within the limits are ever in memory together.

    Raises:
        CotoError: The hub or the mirror lacks the task, a split or a column, or an image is absent.
    """
    if mirror is None and task.family == "omniglot":
        raise CotoError(
            f"task {task.name}: the hub has no Omniglot by alphabets, expected a mirror of "
            f"{task.hub_path}/{task.hub_config} as data.mirror"
        )
    tables = open_tables(task, mirror, cache)
    own = [task.validation_split] if task.validation_split else []
    require_splits(task, tables, mirror, "train", task.test_split, *own)
    place = where(task, mirror)
    keys = {
        split: _keys(task, tables[source], f"{place}, {source}")
        for split, source in (
            ("test", task.test_split),
            *([("validation", task.validation_split)] if own else []),
            ("train", "train"),
        )
    }
    # The reported part stays whole; what it has, the others have not.
    seen = set(keys["test"]["order"])
    for split in list(keys)[1:]:
        found = keys[split].drop_duplicates("order")
        keys[split] = found[~found["order"].isin(seen)]
        seen |= set(found["order"])
    sources = {"test": task.test_split, "validation": task.validation_split, "train": "train"}
    if not own:
        is_cut = _validation(keys["train"])
        keys["validation"], keys["train"] = keys["train"][is_cut], keys["train"][~is_cut]
        sources["validation"] = "train"
    frames = {
        split: _with_images(
            task, tables[sources[split]], found.sort_values("order").iloc[: sizes[split]]
        )
        for split, found in keys.items()
    }
    return frames, _names(task, tables["train"], f"{place}, train")


def _validation(train: pd.DataFrame) -> pd.Series:
    """A tenth of every class, at least one image, by the images' hashes."""
    by_class = train.sort_values("order").groupby("label")["order"]
    size = by_class.transform("size")
    cut: pd.Series = by_class.cumcount() < (size * VALIDATION_SHARE).round().clip(lower=1)
    return cut.reindex(train.index)


def _files(task: ImageTask, table: Dataset) -> Dataset:
    return table.select_columns([task.image_column]).cast_column(
        task.image_column, Image(decode=False)
    )


def _keys(task: ImageTask, table: Dataset, place: str) -> pd.DataFrame:
    """Label, number and hash of every row."""
    for column in (task.image_column, task.label_column):
        if column not in table.column_names:
            raise CotoError(
                f"{place}: no column {column!r}, it has {', '.join(table.column_names)}"
            )
    order = [content_key(content) for content in _contents(task, table, place)]
    labels = pd.to_numeric(pd.Series(table[task.label_column][:]), errors="coerce").fillna(-1)
    return pd.DataFrame({"label": labels.astype("int64"), "idx": range(len(order)), "order": order})


def _contents(task: ImageTask, table: Dataset, place: str) -> Iterator[bytes]:
    for number, row in enumerate(_files(task, table)):
        image = row[task.image_column] or {}
        content = image.get("bytes")
        if content is None and image.get("path"):
            path = Path(image["path"])
            if not path.is_file():
                raise CotoError(f"{place}: image {number} is missing, expected the file {path}")
            content = path.read_bytes()
        if not content:
            raise CotoError(f"{place}: image {number} is missing, expected an image file's content")
        yield content


def _with_images(task: ImageTask, table: Dataset, keys: pd.DataFrame) -> pd.DataFrame:
    numbers = keys["idx"].to_list()
    images = list(_contents(task, table.select(numbers), f"task {task.name}"))
    return keys.assign(image=images)


def _names(task: ImageTask, table: Dataset, place: str) -> list[str]:
    feature = table.features[task.label_column]
    if not isinstance(feature, ClassLabel):
        raise CotoError(
            f"{place}: {task.label_column} has no class names, expected a ClassLabel feature"
        )
    return list(feature.names)
