"""Characters as images, rendered from the fonts that matplotlib ships.

Each glyph is drawn once, as a *plate*: 64 x 64, ink 1 on ground 0, centred, its longer side always
the same. Two plates of a glyph exist: the font's own shape, and its skeleton, one pixel wide, which
:mod:`coto.tasks.distort` traces with a pen, as a hand would draw the character.
"""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFont
from torch import Tensor

from coto.errors import CotoError

PLATE = 64  # px, side of a plate
INK = 46  # px, the longer side of a glyph on its plate; the rest is room for distortion
_EM = 96  # px, size at which outlines are rasterised before they are fitted


def font_path(font: str) -> Path:
    """The file of a font that matplotlib ships, such as ``DejaVuSans-Bold``.

    Raises:
        CotoError: This matplotlib has no such font.
    """
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    if not path.is_file():
        raise CotoError(f"font {font!r}: {path} is missing, expected matplotlib's own fonts")
    return path


@lru_cache(maxsize=64)
def _face(font: str) -> ImageFont.FreeTypeFont:
    # Basic layout: Pillow builds with and without Raqm draw the same.
    return ImageFont.truetype(font_path(font), _EM, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=64)
def _missing(font: str) -> bytes:
    """What the font draws for a character that it lacks (``.notdef``)."""
    return bytes(_face(font).getmask("\U0010fffe", mode="L"))


def has(font: str, character: str) -> bool:
    """Whether the font draws a character at all, and not only the box of a missing one."""
    mask = _face(font).getmask(character, mode="L")
    return mask.getbbox() is not None and bytes(mask) != _missing(font)


def plate(font: str, character: str) -> np.ndarray:
    """One glyph, (64, 64) uint8, 255 is ink.

    Raises:
        CotoError: The font has no such character.
    """
    if not has(font, character):
        raise CotoError(
            f"font {font!r}: no glyph for {character!r} (U+{ord(character):04X}), expected one"
        )
    mask = _face(font).getmask(character, mode="L")
    glyph = Image.frombytes("L", mask.size, bytes(mask)).crop(mask.getbbox())
    factor = INK / max(glyph.size)
    width, height = (max(1, round(side * factor)) for side in glyph.size)
    canvas = Image.new("L", (PLATE, PLATE))
    canvas.paste(
        glyph.resize((width, height), Image.Resampling.LANCZOS),
        ((PLATE - width) // 2, (PLATE - height) // 2),
    )
    return np.asarray(canvas)


def plates(glyphs: list[tuple[str, str]]) -> Tensor:
    """Plates of (font, character) pairs: (n, 2, 64, 64) uint8, own shape and skeleton."""
    filled = torch.from_numpy(np.stack([plate(font, character) for font, character in glyphs]))
    return torch.stack([filled, skeleton(filled >= 128).to(torch.uint8) * 255], dim=1)


def skeleton(shapes: Tensor) -> Tensor:
    """Thin shapes, (n, h, w) bool, to lines one pixel wide (Zhang and Suen, 1984)."""
    lines = shapes.to(torch.uint8)
    active = torch.arange(len(lines))
    while len(active):
        before = lines[active]
        current = before
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
