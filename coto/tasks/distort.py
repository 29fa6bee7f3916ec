"""Plates of glyphs to pictures of characters: pen, pose, elastic distortion, ink, light and noise.

Everything acts on a batch at once and draws from one generator, so that a batch takes a few
milliseconds on one core and a seed says all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True)
class Distortion:
    """How far pictures stray from their plates; every amount is drawn anew per picture.

    Amounts of pose and elasticity are in half sides of the picture, light in its range 0 to 1.
    """

    hand: float = 0.5
    """Share of pictures that are traced from the skeleton with a pen."""
    rotate: float = 0.25
    """Standard deviation of the rotation, rad."""
    shear: float = 0.2
    scale: float = 0.15
    """Standard deviation of the logarithm of width and height."""
    shift: float = 0.08
    elastic: float = 0.06
    """Standard deviation of the displacement of points on a coarse lattice."""
    lattice: int = 5
    """Points per side of that lattice: more points, shorter waves."""
    blur: float = 0.3
    """Share of pictures that are blurred."""
    noise: float = 0.08
    """Largest standard deviation of the noise."""
    light: float = 0.15
    """Largest slope of the ground from one side to the other."""
    contrast: float = 0.35
    """Least difference between ink and ground."""
    inverted: float = 0.5
    """Share of pictures with bright ink on a dark ground."""


def draw(plates: Tensor, distortion: Distortion, generator: Generator, size: int = 32) -> Tensor:
    """Draw one picture of each plate pair.

    Args:
        plates: (n, 2, s, s) uint8 of :func:`coto.tasks.glyphs.plates`, s a multiple of `size`.
        distortion: how strongly.
        generator: source of everything random.
        size: side of the pictures, px.

    Returns:
        (n, 1, size, size) float32 in [0, 1].
    """
    ink = _ink(plates, distortion, generator)
    ink = F.grid_sample(
        ink, _grid(len(ink), plates.shape[-1], distortion, generator), align_corners=False
    )
    ink = F.avg_pool2d(ink, plates.shape[-1] // size)
    return _expose(_blur(ink, distortion.blur, generator), distortion, generator)


def to_bytes(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as uint8, (n, size, size)."""
    return (pictures[:, 0] * 255).round().to(torch.uint8)


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _ink(plates: Tensor, distortion: Distortion, generator: Generator) -> Tensor:
    """The font's shape, thinner or thicker, or the skeleton under a pen: (n, 1, s, s) in [0, 1]."""
    count = len(plates)
    hand = torch.rand(count, generator=generator) < distortion.hand
    width = torch.randint(3, (count,), generator=generator)
    ink = plates[torch.arange(count), hand.long()]
    # A skeleton gets a pen of 3, 5 or 7 px; a shape is 2 px thinner, as it is, or 2 px thicker.
    ink = _where(hand | (width == 2), _grow, ink)
    ink = _where(hand & (width >= 1), _grow, ink)
    ink = _where(hand & (width == 2), _grow, ink)
    ink = _where(~hand & (width == 0), _shrink, ink)
    return ink.unsqueeze(1).float() / 255


def _where(chosen: Tensor, change: Callable[[Tensor], Tensor], ink: Tensor) -> Tensor:
    ink[chosen] = change(ink[chosen])
    return ink


def _grow(ink: Tensor) -> Tensor:
    """Each pixel becomes the darkest of its 3 x 3 (plates have a margin, edges stay)."""
    ink = ink.clone()
    torch.maximum(ink[:, 1:-1], torch.maximum(ink[:, :-2], ink[:, 2:]), out=ink[:, 1:-1])
    torch.maximum(ink[..., 1:-1], torch.maximum(ink[..., :-2], ink[..., 2:]), out=ink[..., 1:-1])
    return ink


def _shrink(ink: Tensor) -> Tensor:
    """The opposite; a glyph of hairlines, that would lose over half of its ink, stays."""
    thin = 255 - _grow(255 - ink)
    kept = thin.sum((1, 2)) >= 0.5 * ink.sum((1, 2))
    return torch.where(kept[:, None, None], thin, ink)


def _grid(count: int, side: int, distortion: Distortion, generator: Generator) -> Tensor:
    """Where each pixel of the picture looks in its plate: (n, side, side, 2) in [-1, 1]."""
    angle = torch.randn(count, generator=generator) * distortion.rotate
    shear = torch.randn(count, generator=generator) * distortion.shear
    scale = torch.exp(torch.randn(2, count, generator=generator) * distortion.scale)
    shift = torch.randn(2, count, generator=generator) * distortion.shift
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([cos / scale[0], (shear * cos - sin) / scale[0], shift[0]], 1),
            torch.stack([sin / scale[1], (shear * sin + cos) / scale[1], shift[1]], 1),
        ],
        1,
    )
    # The map is smooth: it is made on a lattice of 16 x 16 and interpolated to pixels.
    grid = F.affine_grid(theta, [count, 1, 16, 16], align_corners=True).permute(0, 3, 1, 2)
    points = distortion.lattice
    waves = torch.randn(count, 2, points, points, generator=generator)
    amount = _uniform(count, 0.0, 2.0, generator) * distortion.elastic
    grid = grid + F.interpolate(waves * _each(amount), 16, mode="bicubic", align_corners=True)
    grid = F.interpolate(grid, side, mode="bilinear", align_corners=True)
    return grid.permute(0, 2, 3, 1)


def _blur(ink: Tensor, share: float, generator: Generator) -> Tensor:
    chosen = torch.rand(len(ink), generator=generator) < share
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    blurred = F.conv2d(ink[chosen], torch.outer(kernel, kernel)[None, None], padding=1)
    ink = ink.clone()
    ink[chosen] = blurred
    return ink


def _expose(ink: Tensor, distortion: Distortion, generator: Generator) -> Tensor:
    """Ink on a ground with a slope of light and noise."""
    count, _, _, size = ink.shape
    contrast = _uniform(count, distortion.contrast, 1.0, generator)
    base = torch.rand(count, generator=generator) * (1 - contrast)
    axis = torch.linspace(-0.5, 0.5, size)
    slope = _uniform(2 * count, -distortion.light, distortion.light, generator).view(2, count)
    ground = slope[0, :, None, None] * axis + slope[1, :, None, None] * axis[:, None]
    picture = _each(base) + _each(contrast) * ink + ground[:, None]
    noise = torch.randn(ink.shape, generator=generator)
    picture = picture + noise * _each(torch.rand(count, generator=generator) * distortion.noise)
    inverted = torch.rand(count, generator=generator) < distortion.inverted
    return torch.where(_each(inverted), picture, 1 - picture).clamp(0, 1)


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
