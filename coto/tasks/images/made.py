"""Image tasks that are computed: scikit-learn's scans of digits, and characters from fonts.

Of a font's glyphs plates are made, and of plates pictures: pen, pose, elastic distortion, ink,
light and noise.
"""

import hashlib
import io
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image, ImageFont
from sklearn.datasets import load_digits
from torch import Generator, Tensor

from coto.errors import CotoError
from coto.tasks.images import UPRIGHT, ImageTask
from coto.tasks.images.hub import finish
from coto.tasks.splits import digest, split_of
from coto.tasks.task import Sources

# Pictures of each class. Train has room for three draws of 16 shots that hardly overlap.
PER_CLASS = {"train": 48, "validation": 16, "test": 48}
# The fonts of clean characters, of which prototypes are made.
CLEAN_FONTS = UPRIGHT
SIDE = 32  # px
SCANS_TEST_SHARE = 0.5


@dataclass(frozen=True)
class Distortion:
    """How far pictures stray from their plates; every amount is drawn anew per picture.

    Amounts of pose and elasticity are in half sides of the picture, light in its range 0 to 1.
    """

    hand: float = 0.5  # share of pictures that are traced from the skeleton with a pen
    rotate: float = 0.25  # standard deviation of the rotation, rad
    shear: float = 0.2  # standard deviation
    scale: float = 0.15  # standard deviation of the logarithm of width and height
    shift: float = 0.08  # standard deviation
    elastic: float = 0.06  # standard deviation of the displacement of points on a coarse lattice
    lattice: int = 5  # points per side of that lattice: more points, shorter waves
    blur: float = 0.3  # share of pictures that are blurred
    noise: float = 0.08  # largest standard deviation of the noise
    light: float = 0.15  # largest slope of the ground from one side to the other
    contrast: float = 0.35  # least difference between ink and ground
    inverted: float = 0.5  # share of pictures with bright ink on a dark ground


CLEAN = Distortion(
    hand=0,
    rotate=0,
    shear=0,
    scale=0,
    shift=0,
    elastic=0,
    blur=0,
    noise=0,
    light=0,
    contrast=1,
    inverted=0,
)
"""As it was printed, black on white."""


def distortion_of(task: ImageTask) -> Distortion:
    """Pretraining's, its pose and waves times ``task.hardness``, as dark ink on paper.

    Pen and pose make the difficulty: light that is anything would only keep raw pixels, which a
    backbone is compared with, from saying anything.
    """
    usual, amounts = Distortion(), ("rotate", "shear", "scale", "shift", "elastic")
    harder = {name: getattr(usual, name) * task.hardness for name in amounts}
    return replace(usual, hand=task.hand, contrast=0.6, inverted=0.0, **harder)


def scans(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """The 1,797 scans; equal ones share a split, since it follows from the pixels.

    Their prototypes are no scans, but clean characters.
    """
    if sources.prototypes:
        return clean(task, sources)
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    # Not of the file: how a PNG is packed is up to the library's version.
    order = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    frame = pd.DataFrame({"image": list(map(png, pixels)), "label": digits.target, "order": order})
    frame = frame.reset_index(names="idx")
    part = frame["order"].map(partial(split_of, test_share=SCANS_TEST_SHARE))
    frames = {split: frame[part == split] for split in PER_CLASS}
    return finish(task, frames, "0123456789", sources)


def rendered(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """New pictures for every split: same characters, same fonts, other chance.

    Each (font, split) has a generator of its own, so no picture of one split is one of another, and
    what is drawn in one font does not hang on the others. Prototypes are of clean characters.
    """
    if sources.prototypes:
        return clean(task, sources)
    distortion = distortion_of(task)
    parts: dict[str, list[pd.DataFrame]] = {split: [] for split in PER_CLASS}
    for place, font in enumerate(task.fonts):
        own = plates([(font, character) for character in task.characters])
        for split, count in PER_CLASS.items():
            labels = np.tile(np.arange(len(own)), len(range(place, count, len(task.fonts))))
            generator = generator_of(task, split, font)
            parts[split].append(as_rows(own[labels], labels, distortion, generator, split, font))
    whole = {split: pd.concat(part, ignore_index=True) for split, part in parts.items()}
    frames = {split: frame.reset_index(names="idx") for split, frame in whole.items()}
    return finish(task, frames, task.characters, sources)


def clean(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Every character of the task once in each of :data:`CLEAN_FONTS`, undistorted."""
    own = plates([(font, character) for font in CLEAN_FONTS for character in task.characters])
    labels = np.tile(np.arange(len(task.characters)), len(CLEAN_FONTS))
    frame = as_rows(own, labels, CLEAN, generator_of(task, "prototypes"), "prototypes")
    frames = {"prototypes": frame.reset_index(names="idx")}
    return finish(task, frames, task.characters, sources)


def generator_of(task: ImageTask, part: str, *more: str) -> Generator:
    """The chance of a part of a task, the same on every machine and for every run."""
    return Generator().manual_seed(int(digest("glyphs", task.name, part, *more)[:15], 16))


def as_rows(
    plates: Tensor, labels: np.ndarray, distortion: Distortion, generator: Generator, *place: str
) -> pd.DataFrame:
    """A picture of each plate pair with its label, and its ``order`` among those of the `place`."""
    pixels = to_bytes(draw(plates, distortion, generator)).numpy()
    # By number, not by content: a pixel's last bit may differ between processors.
    order = [digest("picture", *place, str(number)) for number in range(len(labels))]
    return pd.DataFrame({"image": list(map(png, pixels)), "label": labels, "order": order})


def to_bytes(pictures: Tensor) -> Tensor:
    """Pictures, (n, 1, size, size) in [0, 1], as uint8, (n, size, size)."""
    return (pictures[:, 0] * 255).round().to(torch.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A grey image, (height, width) uint8, as the content of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def draw(plates: Tensor, distortion: Distortion, generator: Generator, size: int = SIDE) -> Tensor:
    """Draw one picture of each plate pair.

    Plates are (n, 2, s, s) uint8 of :func:`plates`, with s a multiple of `size`, the side in px;
    pictures are (n, 1, size, size) float32 in [0, 1]. Everything acts on a batch at once and draws
    from one generator, so that a batch takes milliseconds on one core and a seed says all.
    """
    ink = _ink(plates, distortion, generator)
    side = plates.shape[-1]
    ink = F.grid_sample(ink, _grid(len(ink), side, distortion, generator), align_corners=False)
    ink = F.avg_pool2d(ink, side // size)
    return _expose(_blur(ink, distortion.blur, generator), distortion, generator)


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _ink(plates: Tensor, distortion: Distortion, generator: Generator) -> Tensor:
    """The font's shape, thinner or thicker, or the skeleton under a pen: (n, 1, s, s) in [0, 1]."""
    count = len(plates)
    hand = torch.rand(count, generator=generator) < distortion.hand
    width = torch.randint(3, (count,), generator=generator)
    ink = plates[torch.arange(count), hand.long()]
    # A skeleton gets a pen of 3, 5 or 7 px; a shape is 2 px thinner, as it is, or 2 px thicker.
    for chosen in (hand | (width == 2), hand & (width >= 1), hand & (width == 2)):
        ink[chosen] = _grow(ink[chosen])
    thinner = ~hand & (width == 0)
    ink[thinner] = _shrink(ink[thinner])
    return ink.unsqueeze(1).float() / 255


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
    across = torch.stack([cos / scale[0], (shear * cos - sin) / scale[0], shift[0]], 1)
    down = torch.stack([sin / scale[1], (shear * sin + cos) / scale[1], shift[1]], 1)
    theta = torch.stack([across, down], 1)
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
    ink[chosen] = F.conv2d(ink[chosen], torch.outer(kernel, kernel)[None, None], padding=1)
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


PLATE = 64  # px, side of a plate
INK = 46  # px, the longer side of a glyph on its plate; the rest is room for distortion
_EM = 96  # px, size at which outlines are rasterised before they are fitted


@lru_cache(maxsize=64)
def _face(font: str) -> tuple[ImageFont.FreeTypeFont, bytes]:
    """A font that matplotlib ships, and what it draws for a character that it lacks."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    if not path.is_file():
        raise CotoError(f"font {font!r}: {path} is missing, expected matplotlib's own fonts")
    # Basic layout: Pillow builds with and without Raqm draw the same.
    face = ImageFont.truetype(path, _EM, layout_engine=ImageFont.Layout.BASIC)
    return face, bytes(face.getmask("\U0010fffe", mode="L"))


def has(font: str, character: str) -> bool:
    """Whether the font draws a character at all, and not only the box of a missing one."""
    face, missing = _face(font)
    mask = face.getmask(character, mode="L")
    return mask.getbbox() is not None and bytes(mask) != missing


def plate(font: str, character: str) -> np.ndarray:
    """One glyph, (64, 64) uint8, 255 is ink; CotoError if there is no such font or glyph in it."""
    if not has(font, character):
        raise CotoError(
            f"font {font!r}: no glyph for {character!r} (U+{ord(character):04X}), expected one"
        )
    mask = _face(font)[0].getmask(character, mode="L")
    glyph = Image.frombytes("L", mask.size, bytes(mask)).crop(mask.getbbox())
    factor = INK / max(glyph.size)
    width, height = (max(1, round(side * factor)) for side in glyph.size)
    fitted = glyph.resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("L", (PLATE, PLATE))
    canvas.paste(fitted, ((PLATE - width) // 2, (PLATE - height) // 2))
    return np.asarray(canvas)


def plates(glyphs: list[tuple[str, str]]) -> Tensor:
    """Plates of (font, character) pairs: (n, 2, 64, 64) uint8, own shape and skeleton."""
    filled = torch.from_numpy(np.stack([plate(*glyph) for glyph in glyphs]))
    return torch.stack([filled, skeleton(filled >= 128).to(torch.uint8) * 255], dim=1)


def skeleton(shapes: Tensor) -> Tensor:
    """Thin shapes, (n, h, w) bool, to lines one pixel wide (Zhang and Suen, 1984)."""
    lines = shapes.to(torch.uint8)
    active = torch.arange(len(lines))
    while len(active):
        current = before = lines[active]
        for step in (0, 1):
            current = current & ~_removable(current, step)
        lines[active] = current
        active = active[(before != current).flatten(1).any(1)]
    return lines.bool()


def _removable(lines: Tensor, step: int) -> Tensor:
    """Points that a step takes away: 1 where so, else 0, as uint8."""
    padded = F.pad(lines, (1, 1, 1, 1))
    height, width = lines.shape[1:]
    # P2 … P9 of the paper: the neighbours clockwise from the one above.
    offsets = [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]
    ring = [padded[:, y : y + height, x : x + width] for y, x in offsets]
    count, rises = torch.zeros_like(lines), torch.zeros_like(lines)
    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
        count += a
        rises += b & (1 - a)
    north, east, south, west = ring[0], ring[2], ring[4], ring[6]
    # Either step keeps a point whose neighbours here are inside: both of a pair, one of another.
    pair, other = (east & south, north | west) if step == 0 else (north & west, east | south)
    kept = pair & other
    return (lines.bool() & (count >= 2) & (count <= 6) & (rises == 1) & (kept == 0)).to(torch.uint8)
