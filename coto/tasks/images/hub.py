"""Image tasks of the hub or of a mirror of it, also in CoOp's folders; what all image rows get."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from coto.errors import CotoError
from coto.tasks.hub import mirror_files, open_tables, require
from coto.tasks.images import ImageTask
from coto.tasks.splits import VALIDATION_SHARE, digest
from coto.tasks.task import SPLITS, Sources

if TYPE_CHECKING:
    from datasets import Dataset


def finish(
    task: ImageTask, frames: Mapping[str, pd.DataFrame], names: Sequence[str], sources: Sources
) -> dict[str, pd.DataFrame]:
    """Rows as an image task's function returns them, with the classes' own `names` by label.

    Frames have, by part, ``image`` (bytes of an image file), ``label``, ``idx``, and ``order``, a
    hash that rows are sorted by, so that a limit takes of every class about its share. CotoError
    for a file that is no image and for a label that the task does not have.
    """
    result = {}
    for split in frames:
        limit = sources.limits.get(split)
        frame = frames[split].sort_values("order", kind="stable").iloc[:limit]
        frame = frame[["image", "label", "idx"]].reset_index(drop=True)
        for content, label, idx in frame.itertuples(index=False):
            name = f"task {task.name}: image {idx} of {split}"
            if not 0 <= label < len(names):
                raise CotoError(f"{name} has label {label}, expected 0 to {len(names) - 1}")
            if not content:
                raise CotoError(f"{name}: is missing, expected the content of an image file")
            try:  # a broken body of a JPEG is only found where it is decoded
                with Image.open(io.BytesIO(content)) as image:
                    image.verify()
            # PIL raises whatever its decoder does: OSError, SyntaxError, ValueError, …
            except Exception as error:
                # PIL's own message shows the address of a buffer.
                reason = str(error).partition(" <_io.")[0] or type(error).__name__
                raise CotoError(f"{name}: is no readable image ({reason[:120]})") from None
        frame = frame.astype({"label": "int64", "idx": "int64"})
        frame.attrs["class_names"] = [task.class_name(name) for name in names]
        result[split] = frame
    return result


def table_rows(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Rows of a table of the hub.

    An image that comes twice is kept once, and not at all in training if it is reported on.
    Without a validation part a tenth of every training class is cut off, by the images' hashes. All
    images are hashed, but only those within the limits are ever in memory together. CotoError if
    the hub or the mirror lacks the task, a split or a column, or an image is absent.
    """
    if sources.mirror is None and task.family == "omniglot":
        raise CotoError(
            f"task {task.name}: the hub has no Omniglot by alphabets, expected a mirror of "
            f"{task.hub_path}/{task.hub_config} as data.mirror"
        )
    origins = {"test": task.test_split, "validation": task.validation_split, "train": "train"}
    if not task.validation_split:
        del origins["validation"]
    tables, place = open_tables(task, sources, *reversed(origins.values()))
    # The reported part stays whole; what it has, the others have not.
    keys: dict[str, pd.DataFrame] = {}
    for split, origin in origins.items():
        found = _keys(task, tables[origin], f"{place}, {origin}")
        if split != "test":
            known = pd.concat([part["order"] for part in keys.values()])
            found = found.drop_duplicates("order")
            found = found[~found["order"].isin(known)]
        keys[split] = found
    if not task.validation_split:
        # A tenth of every class, at least one image, by the images' hashes.
        train = keys["train"].sort_values("order")
        by_class = train.groupby("label")["order"]
        share = (by_class.transform("size") * VALIDATION_SHARE).round().clip(lower=1)
        is_cut = by_class.cumcount() < share
        keys |= {"validation": train[is_cut], "train": train[~is_cut]}
    frames = {}
    for split, found in keys.items():
        table = tables[origins.get(split, "train")]
        found = found.sort_values("order").iloc[: sources.limits[split]]
        chosen = table.select(found["idx"].to_list())
        frames[split] = found.assign(image=list(_contents(task, chosen, f"task {task.name}")))
    names = getattr(tables["train"].features[task.label_column], "names", None)
    if names is None:
        raise CotoError(
            f"{place}, train: {task.label_column} has no class names, expected a ClassLabel feature"
        )
    return finish(task, frames, names, sources)


def _keys(task: ImageTask, table: "Dataset", place: str) -> pd.DataFrame:
    """Label, number and hash of every row."""
    require(f"{place}: no column", table.column_names, task.image_column, task.label_column)
    order = [hashlib.sha256(content).hexdigest() for content in _contents(task, table, place)]
    labels = pd.to_numeric(pd.Series(table[task.label_column][:]), errors="coerce").fillna(-1)
    return pd.DataFrame({"label": labels.astype("int64"), "idx": range(len(order)), "order": order})


def _contents(task: ImageTask, table: "Dataset", place: str) -> Iterator[bytes]:
    """The image files in a table."""
    import datasets

    column, undecoded = task.image_column, datasets.Image(decode=False)
    files = table.select_columns([column]).cast_column(column, undecoded)
    for number, row in enumerate(files):
        image = row[column] or {}
        content = image.get("bytes")
        if content is None and image.get("path"):
            path = Path(image["path"])
            if not path.is_file():
                raise CotoError(f"{place}: image {number} is missing, expected the file {path}")
            content = path.read_bytes()
        if not content:
            raise CotoError(f"{place}: image {number} is missing, expected an image file's content")
        yield content


def coop_rows(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Rows in CoOp's layout: a folder of pictures, and a split that names files.

    ``split_zhou_<set>.json`` has train, val and test, lists of [file, label, class name].
    CotoError if it has another shape, or if it, the mirror or a picture is missing.
    """
    mirror = sources.mirror
    if mirror is None:
        raise CotoError(
            f"task {task.name}: the hub has no copy with CoOp's split, expected a data.mirror "
            f"with {task.files[0]} and the pictures in {task.pictures}"
        )
    (file,) = mirror_files(task, mirror)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = {}
        for split in SPLITS:
            rows = content["val" if split == "validation" else split]
            rows = [(str(path), int(label), str(name)) for path, label, name in rows]
            parts[split] = pd.DataFrame(rows, columns=["file", "label", "name"])
    except (ValueError, KeyError, TypeError) as error:
        raise CotoError(
            f"task {task.name}: {file} is no split of CoOp ({type(error).__name__}), "
            "expected train, val and test, lists of [file, label, class name]"
        ) from None
    classes = pd.concat(parts.values()).groupby("label")["name"].agg(["nunique", "first"])
    labels = classes.index.to_list()
    if labels != list(range(len(labels))) or (classes["nunique"] != 1).any():
        raise CotoError(
            f"task {task.name}: {file}: labels {labels[:5]}…, expected 0, 1, … with a name each"
        )
    frames = {}
    for split, frame in parts.items():
        frame = frame.assign(idx=frame.index, order=[digest("file", f) for f in frame["file"]])
        frame = frame.sort_values("order", kind="stable").iloc[: sources.limits[split]]
        try:
            pictures = [(mirror / task.pictures / f).read_bytes() for f in frame["file"]]
        except OSError as error:
            raise CotoError(
                f"task {task.name}: {error.filename} cannot be read ({error.strerror}), "
                "the split names it"
            ) from None
        frames[split] = frame.assign(image=pictures)
    return finish(task, frames, classes["first"].to_list(), sources)
