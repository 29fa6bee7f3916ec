"""What a model sees: the size, the channels and the scale of its input images."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pixels:
    """A model's input.

    Attributes:
        size: side of the square input, in pixels.
        channels: 1 (grey) or 3 (RGB).
        mean: of each channel, of values in [0, 1].
        std: of each channel.
        crop: share of the resized image's shorter side that the evaluation's centre crop keeps.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float = 1.0

    def normalise(self, images: Tensor) -> Tensor:
        """Images (batch, channels, side, side) in 0…255, of any type, to the model's input."""
        mean = torch.tensor(self.mean).view(-1, 1, 1)
        std = torch.tensor(self.std).view(-1, 1, 1)
        return (images.float() / 255 - mean) / std
