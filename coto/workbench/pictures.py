"""Image files to tensors: decoding, the evaluation's view of an image, random views of training.

Random views are a function of (seed, pass over the data, row), not of a generator's state: a
DataLoader reads ahead of the checkpoint, and a resumed run must see what the killed one would have.
"""

import hashlib
import io
import math
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from coto.backbones.pixels import Pixels
from coto.errors import CotoError

View = Literal["whole", "fitted"]

CACHE_BYTES = 2**30
"""Decoded images that a job keeps; of larger sets the rest is decoded every time it is read."""

# Shifts: largest turn in degrees, stretch as a factor, and move as a share of the side.
_TURN, _STRETCH, _MOVE = 10.0, 1.15, 0.08
# Crops: share of the area and aspect ratio, CLIP-LoRA's.
_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


class Pictures:
    """Decoded images, each read once as long as they fit into memory.

    Args:
        pixels: what the model sees.
        limit: bytes of images that are kept.

    Attributes:
        is_full: whether an image did not fit, after which none is kept any more.
    """

    def __init__(self, pixels: Pixels, limit: int = CACHE_BYTES) -> None:
        self.pixels = pixels
        self.is_full = False
        self._room = limit
        self._kept: dict[tuple[bytes, View], Tensor] = {}

    def read(self, content: object, name: str, view: View) -> Tensor:
        """An image file's content as (channels, height, width), uint8.

        Args:
            content: PNG, JPEG or whatever else PIL reads, as bytes.
            name: of the image in an error.
            view: ``whole``; or ``fitted``, the evaluation's: the shorter side resized (bicubic),
                then the centre cropped to the model's square.

        Raises:
            CotoError: if there is no content, or PIL cannot read it.
        """
        if not isinstance(content, bytes) or not content:
            raise CotoError(f"{name}: is missing, expected the content of an image file")
        key = hashlib.sha1(content, usedforsecurity=False).digest(), view
        if key not in self._kept:
            image = _decode(content, name, self.pixels.channels)
            if view == "fitted":
                image = _fit(image, self.pixels)
            self.is_full = self.is_full or image.numel() > self._room
            if self.is_full:
                return image
            self._room -= image.numel()
            self._kept[key] = image
        return self._kept[key]


def shift(images: Tensor, draws: list[np.random.Generator]) -> Tensor:
    """Small turns, stretches and moves, for characters; borders are continued.

    Args:
        images: (batch, channels, side, side).
        draws: one generator per image.
    """
    maps = []
    for draw in draws:
        angle = math.radians(draw.uniform(-_TURN, _TURN))
        scale = _STRETCH ** draw.uniform(-1, 1)
        x, y = draw.uniform(-2 * _MOVE, 2 * _MOVE, 2)  # coordinates run from -1 to 1
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        maps.append([[cos, -sin, x], [sin, cos, y]])
    grid = torch.nn.functional.affine_grid(
        torch.tensor(maps, dtype=torch.float32), list(images.shape), align_corners=False
    )
    return torch.nn.functional.grid_sample(
        images.float(), grid, padding_mode="border", align_corners=False
    )


def crop(image: Tensor, size: int, draw: np.random.Generator) -> Tensor:
    """CLIP-LoRA's view: a random part, resized (bicubic), mirrored half of the time.

    Args:
        image: (channels, height, width), uint8.
        size: side of the result.
        draw: source of chance.
    """
    top, left, height, width = _box(image.shape[-2], image.shape[-1], draw)
    view = vision.resized_crop(
        image, top, left, height, width, [size, size], InterpolationMode.BICUBIC, antialias=True
    )
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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CotoError(f"{name}: is no readable image ({reason[:120]})") from None
    return torch.from_numpy(array).reshape(*array.shape[:2], channels).permute(2, 0, 1).contiguous()


def _fit(image: Tensor, pixels: Pixels) -> Tensor:
    shorter = math.floor(pixels.size / pixels.crop)
    resized = vision.resize(image, [shorter], InterpolationMode.BICUBIC, antialias=True)
    return vision.center_crop(resized, [pixels.size, pixels.size])
