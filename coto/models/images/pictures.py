"""Image files to tensors: decoding, the evaluation's view of an image, random views of training.

Random views are a function of (seed, pass over the data, row), not of a generator's state: a
DataLoader reads ahead of the checkpoint, and a resumed run must see what the killed one would have.
"""

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from coto.errors import CotoError
from coto.models.base import first_line
from coto.models.batches import EpochCallback
from coto.tasks.task import Task

View = Literal["whole", "fitted"]

CACHE_BYTES = 2**30
"""Decoded images that a job keeps; of larger sets the rest is decoded every time it is read."""

# Shifts: largest turn in degrees, stretch as a factor, and move as a share of the side.
_TURN, _STRETCH, _MOVE = 10.0, 1.15, 0.08
# Crops: share of the area and aspect ratio, CLIP-LoRA's.
_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Pixels:
    """A model's input: a square of `size` pixels, of 1 channel (grey) or 3 (RGB)."""

    size: int
    channels: int
    mean: tuple[float, ...]  # of each channel, of values in [0, 1]
    std: tuple[float, ...]
    crop: float = 1.0  # share of a resized image's shorter side that the centre crop keeps

    def normalise(self, images: Tensor) -> Tensor:
        """Images (batch, channels, side, side) in 0…255, of any type, to the model's input."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images.float() / 255 - mean) / std


class Pictures:
    """Decoded images, each read once until one is beyond the limit in bytes (``is_full``)."""

    def __init__(self, pixels: Pixels, limit: int = CACHE_BYTES) -> None:
        self.pixels = pixels
        self.is_full, self._room = False, limit
        self._kept: dict[tuple[bytes, View], Tensor] = {}

    def read(self, content: object, name: str, view: View) -> Tensor:
        """An image file's content, whatever PIL reads, as (channels, height, width), uint8.

        A view is ``whole``; or ``fitted``, the evaluation's: the shorter side resized (bicubic),
        then the centre cropped to the square. Raises CotoError, with the image's `name`, if there
        is no content or PIL cannot read it.
        """
        if not isinstance(content, bytes) or not content:
            raise CotoError(f"{name}: is missing, expected the content of an image file")
        key = hashlib.sha1(content, usedforsecurity=False).digest(), view
        if key not in self._kept:
            image, size = _decode(content, name, self.pixels.channels), self.pixels.size
            if view == "fitted":
                shorter = math.floor(size / self.pixels.crop)
                image = vision.resize(image, [shorter], InterpolationMode.BICUBIC, antialias=True)
                image = vision.center_crop(image, [size, size])
            self.is_full = self.is_full or image.numel() > self._room
            if self.is_full:
                return image
            self._room -= image.numel()
            self._kept[key] = image
        return self._kept[key]


def shift(images: Tensor, draws: list[np.random.Generator]) -> Tensor:
    """Small turns, stretches and moves of characters (batch, channels, side, side), one generator
    each; borders are continued."""
    maps = []
    for draw in draws:
        angle = math.radians(draw.uniform(-_TURN, _TURN))
        scale = _STRETCH ** draw.uniform(-1, 1)
        x, y = draw.uniform(-2 * _MOVE, 2 * _MOVE, 2)  # coordinates run from -1 to 1
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        maps.append([[cos, -sin, x], [sin, cos, y]])
    matrices = torch.tensor(maps, dtype=torch.float32)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def crop(image: Tensor, size: int, draw: np.random.Generator) -> Tensor:
    """CLIP-LoRA's view of an image (channels, height, width), uint8: a random part, resized to the
    side `size` (bicubic), mirrored half of the time."""
    box, bicubic = _box(image.shape[-2], image.shape[-1], draw), InterpolationMode.BICUBIC
    view = vision.resized_crop(image, *box, [size, size], bicubic, antialias=True)
    return vision.horizontal_flip(view) if draw.random() < 0.5 else view


def _box(height: int, width: int, draw: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width as torchvision's RandomResizedCrop draws them."""
    for _ in range(10):
        area = height * width * draw.uniform(*_AREA)
        ratio = math.exp(draw.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = draw.integers(height - h + 1), draw.integers(width - w + 1)
            return int(top), int(left), h, w
    # A very long image: the largest part of an allowed shape, from the centre.
    w = min(width, round(height * _RATIO[1]))
    h = min(height, round(width / _RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def _decode(content: bytes, name: str, channels: int) -> Tensor:
    try:
        with Image.open(io.BytesIO(content)) as file:
            array = np.array(file.convert("L" if channels == 1 else "RGB"))
    # PIL raises whatever its decoder does: OSError, SyntaxError, ValueError, struct.error, …
    except Exception as error:
        raise CotoError(f"{name}: is no readable image ({first_line(error)[:120]})") from None
    return torch.from_numpy(array).reshape(*array.shape[:2], channels).permute(2, 0, 1).contiguous()


class TrainingImages(Dataset[tuple[int, int]]):
    """Rows for the HF Trainer: items are (row, pass), and :meth:`collate` makes the views.

    `augmentation` and `seed` are those of the views. The Trainer must have :attr:`callback`.
    """

    def __init__(
        self, task: Task, rows: pd.DataFrame, pictures: Pictures, augmentation: str, seed: int
    ) -> None:
        self._contents, self._names = rows["image"].tolist(), image_names(task, rows)
        self._labels = torch.from_numpy(class_numbers(task, rows))
        self._pictures, self._augmentation = pictures, augmentation
        self._view: View = "whole" if augmentation == "crop" else "fitted"
        self._seed, self._epoch = seed, 0
        self.callback = EpochCallback(self.set_epoch)
        # What fits into memory is read now, so that a broken image ends the job before training.
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
        pixels = self._pictures.pixels
        draws = [np.random.default_rng((self._seed, epoch, index)) for index, epoch in items]
        if self._augmentation == "crop":
            images = [crop(image, pixels.size, d) for image, d in zip(images, draws, strict=True)]
        batch = torch.stack(images)
        if self._augmentation == "shift":
            batch = shift(batch, draws)
        return {"pixel_values": pixels.normalise(batch), "labels": self._labels[indices]}

    def _read(self, index: int) -> Tensor:
        return self._pictures.read(self._contents[index], self._names[index], self._view)


def class_names(task: Task, rows: pd.DataFrame) -> list[str]:
    """Names of a task's classes by label, which its rows carry."""
    names = list(rows.attrs.get("class_names", []))
    if len(names) < 2:
        raise CotoError(f"task {task.name}: class_names = {names}: expected at least two in attrs")
    return names


def class_numbers(task: Task, rows: pd.DataFrame) -> np.ndarray:
    """Labels of rows, (rows,), int64; refuses those that the task does not have."""
    if rows.empty:
        raise CotoError(f"task {task.name}: no rows, expected at least one")
    labels, count = rows["label"].to_numpy(np.int64, copy=True), len(class_names(task, rows))
    for position in np.flatnonzero((labels < 0) | (labels >= count))[:1]:
        label = f"image {rows['idx'].iloc[position]} has label {labels[position]}"
        raise CotoError(f"task {task.name}: {label}, expected 0 to {count - 1}")
    return labels


def image_names(task: Task, rows: pd.DataFrame) -> list[str]:
    """What an error calls each image."""
    files = [f" ({file})" for file in rows["file"]] if "file" in rows else [""] * len(rows)
    pairs = zip(rows["idx"], files, strict=True)
    return [f"task {task.name}: image {idx}{file}" for idx, file in pairs]
