"""Image classifiers: vision transformers with a linear head, and CLIP."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState

from coto.backbones import clip, vit
from coto.backbones.clip import ClipClassifier
from coto.device import Compute
from coto.errors import CotoError
from coto.evaluate.losses import cross_entropy
from coto.evaluate.scoring import is_collapsed, metric
from coto.tasks.images import ImageTask
from coto.tasks.task import Task
from coto.workbench.base import Scores, TrainingSet, Workbench
from coto.workbench.pictures import Pictures, View, crop, shift


class ImageBench(Workbench):
    """A vision transformer or CLIP on the bench.

    Args:
        settings: a job's settings.
        compute: device and precision.
        seed: of the random views that training sees; both arms of a pair see the same.
    """

    peft_task = None

    def __init__(self, settings: Mapping[str, Any], compute: Compute, seed: int) -> None:
        train = settings.get("train") or {}
        dropout = train.get("backbone_dropout", 0.0)
        loaded: clip.Loaded | vit.Loaded
        if settings["backbone"]["family"] == "clip":
            loaded = clip.load(settings["backbone"], compute.device, dropout=dropout)
        else:
            loaded = vit.load(settings["backbone"], compute.device, dropout=dropout)
            self.heads = ("head",)
        self.model: nn.Module = loaded.model
        self._classifier = loaded.model
        self._pictures = Pictures(loaded.pixels)
        self._compute = compute
        self._seed = seed
        self._augmentation = train.get("augmentation", "none")
        self._batch_images = settings["evaluation"]["batch_images"]

    def for_task(self, task: Task, rows: pd.DataFrame) -> None:
        """A head as wide as the task has classes, starting at zero, or prompts of its classes."""
        assert isinstance(task, ImageTask)
        names = class_names(task, rows)
        if isinstance(self._classifier, ClipClassifier):
            self._classifier.set_classes(names, task.prompt)
        else:
            self._classifier.resize_head(len(names))

    def training_set(self, task: Task, rows: pd.DataFrame) -> TrainingSet:
        """Images, each in a new random view in every pass, if the settings say so."""
        images = TrainingImages(task, rows, self._pictures, self._augmentation, self._seed)
        return TrainingSet(
            images,
            images.collate,
            rows=len(images),
            callbacks=(images.callback,),
            summary={
                "augmentation": self._augmentation,
                "classes": len(class_names(task, rows)),
                "short_classes": rows.attrs.get("short_classes", []),
            },
        )

    def score(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> list[Scores]:
        """Top-1 accuracy on these rows."""
        labels = _labels(task, rows)
        logits = self._predict(model, task, rows)
        given = logits.argmax(axis=1)
        items = pd.DataFrame({"idx": rows["idx"].to_numpy(), "answer": labels, "prediction": given})
        return [
            Scores(
                task.name,
                {name: metric(name, given, labels) for name in task.metrics},
                task.headline,
                items.assign(correct=given == labels),
                collapsed=is_collapsed(logits),
                loss=cross_entropy(logits, labels),
                outputs=logits,
                targets=labels,
            )
        ]

    def _predict(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> np.ndarray:
        """Logits of every row, (rows, classes), fp32, in the order given."""
        model.eval()
        classifier = self._classifier
        contents, names = rows["image"].tolist(), _names(task, rows)
        logits: list[Tensor] = []
        # Inside a PEFT model it is the bench's own model that computes, adapters and all.
        prompts = (
            classifier.fixed_text() if isinstance(classifier, ClipClassifier) else nullcontext()
        )
        # One autocast for all batches: it casts every weight once and keeps the result.
        with torch.inference_mode(), self._compute.autocast(), prompts:
            for start in range(0, len(rows), self._batch_images):
                batch = range(start, min(start + self._batch_images, len(rows)))
                images = [self._pictures.read(contents[i], names[i], "fitted") for i in batch]
                inputs = self._pictures.pixels.normalise(torch.stack(images))
                output = model(pixel_values=inputs.to(self._compute.device))
                logits.append(output.logits.float().cpu())
        result = torch.cat(logits).numpy()
        expected = (len(rows), len(class_names(task, rows)))
        if result.shape != expected:
            raise CotoError(f"task {task.name}: logits of {result.shape}, expected {expected}")
        broken = int(np.sum(~np.isfinite(result).all(axis=1)))
        if broken:
            raise CotoError(
                f"task {task.name}: {broken} of {len(rows)} images have NaN or infinite logits, "
                "expected finite ones; the model has diverged, try a smaller learning rate"
            )
        return result


class TrainingImages(Dataset[tuple[int, int]]):
    """Rows for the HF Trainer: items are (row, pass), and :meth:`collate` makes the views.

    Seed, pass and row fix a view, so that views do not depend on order, on workers, or on where a
    run was interrupted. The Trainer must have :attr:`callback`, which tells the pass: its data
    loader calls ``set_epoch`` as well, but not in a pass that it resumes, nor in a distributed run.

    Args:
        task: for errors.
        rows: training rows.
        pictures: reads them.
        augmentation: ``none``, ``shift`` or ``crop``.
        seed: of the views.

    Attributes:
        callback: for the Trainer.
    """

    def __init__(
        self, task: Task, rows: pd.DataFrame, pictures: Pictures, augmentation: str, seed: int
    ) -> None:
        if augmentation not in ("none", "shift", "crop"):
            raise CotoError(f"augmentation = {augmentation!r}: expected none, shift or crop")
        self._contents, self._names = rows["image"].tolist(), _names(task, rows)
        self._labels = torch.from_numpy(_labels(task, rows))
        self._pictures = pictures
        self._augmentation = augmentation
        self._view: View = "whole" if augmentation == "crop" else "fitted"
        self._seed = seed
        self._epoch = 0
        self.callback = _TellPass(self)
        # What fits into memory is read now, so that a broken image is told before training begins.
        for index in range(len(rows)):
            if not pictures.is_full:
                self._read(index)

    def __len__(self) -> int:
        return len(self._contents)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return int(index), self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Begin a pass over the data."""
        self._epoch = epoch

    def collate(self, items: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch: ``pixel_values`` (batch, channels, side, side) and ``labels`` (batch,)."""
        indices = [index for index, _ in items]
        images = [self._read(index) for index in indices]
        if self._augmentation == "none":
            batch = torch.stack(images)
        else:
            draws = [np.random.default_rng((self._seed, epoch, index)) for index, epoch in items]
            if self._augmentation == "shift":
                batch = shift(torch.stack(images), draws)
            else:
                size = self._pictures.pixels.size
                views = [crop(image, size, d) for image, d in zip(images, draws, strict=True)]
                batch = torch.stack(views)
        return {
            "pixel_values": self._pictures.pixels.normalise(batch),
            "labels": self._labels[indices],
        }

    def _read(self, index: int) -> Tensor:
        return self._pictures.read(self._contents[index], self._names[index], self._view)


class _TellPass(TrainerCallback):
    """Tells a data set which pass begins, or goes on."""

    def __init__(self, images: TrainingImages) -> None:
        self._images = images

    def on_epoch_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._images.set_epoch(math.floor((state.epoch or 0.0) + 1e-6))


def class_names(task: Task, rows: pd.DataFrame) -> list[str]:
    """Names of a task's classes by label, which its rows carry."""
    names = list(rows.attrs.get("class_names", []))
    if len(names) < 2:
        raise CotoError(f"task {task.name}: class_names = {names}: expected at least two in attrs")
    return names


def _labels(task: Task, rows: pd.DataFrame) -> np.ndarray:
    if rows.empty:
        raise CotoError(f"task {task.name}: no rows, expected at least one")
    labels, count = rows["label"].to_numpy(np.int64, copy=True), len(class_names(task, rows))
    for position in np.flatnonzero((labels < 0) | (labels >= count))[:1]:
        raise CotoError(
            f"task {task.name}: image {rows['idx'].iloc[position]} has label {labels[position]}, "
            f"expected 0 to {count - 1}"
        )
    return labels


def _names(task: Task, rows: pd.DataFrame) -> list[str]:
    """What an error calls each image."""
    files = [f" ({file})" for file in rows["file"]] if "file" in rows else [""] * len(rows)
    return [
        f"task {task.name}: image {idx}{file}" for idx, file in zip(rows["idx"], files, strict=True)
    ]
