"""What the glyph backbone is pretrained on: which characters, in which fonts, and what is kept out.

Kept out, so that the offline tasks are new to the backbone (:mod:`coto.tasks.images`): the Greek
and Cyrillic scripts and the digits, in every font, with whatever other character looks like one of
those that the tasks use; and, for the Latin task, whole fonts.
"""

import numpy as np
import torch
import torch.nn.functional as F

from coto.tasks.images import CYRILLIC, DIGITS, GREEK
from coto.tasks.images.made import has, plate

# Upright faces only where the slanted one is the same outline sheared, as distortion does anyway.
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
)
# Never drawn from in pretraining: its accuracy is measured on them.
HELD_OUT_FONTS = ("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic")

# First and last code points. Blocks, not lists: characters that no font has fall out.
_BLOCKS = (
    ("A", "Z"),
    ("a", "z"),
    ("\u00c0", "\u00ff"),  # accented Latin
    ("\u0180", "\u01bf"),  # Latin Extended-B, African and phonetic letters
    ("\u0250", "\u02af"),  # IPA
    ("\u0531", "\u0587"),  # Armenian
    ("\u05d0", "\u05ea"),  # Hebrew
    ("\u0621", "\u064a"),  # Arabic, isolated
    ("\u07ca", "\u07ea"),  # N'Ko
    ("\u0e81", "\u0eb0"),  # Lao
    ("\u10a0", "\u10fc"),  # Georgian
    ("\u1401", "\u14c0"),  # Canadian syllabics, about half of them
    ("\u2190", "\u21bf"),  # arrows
    ("\u2200", "\u224f"),  # mathematical operators
    ("\u2600", "\u266f"),  # symbols
    ("\u2d30", "\u2d67"),  # Tifinagh
    ("\ua4d0", "\ua4f7"),  # Lisu
    ("\ufe8f", "\ufef4"),  # Arabic, initial, medial and final forms
)
# Cosine of blurred plates above which two characters are one to the eye at this size.
LIKE_RESERVED = 0.9
LIKE_ANOTHER = 0.97
_MAX_ASPECT = 3.5  # dashes and bars are all alike once they are scaled to one length


def alphabet() -> dict[str, tuple[str, ...]]:
    """Character -> the fonts of :data:`FONTS` that have it, of every pretraining class in order."""
    fonts = {
        character: found
        for first, last in _BLOCKS
        for character in map(chr, range(ord(first), ord(last) + 1))
        if (found := tuple(font for font in FONTS if has(font, character)))
    }
    characters = list(fonts)
    looks = _looks([(fonts[c][0], c) for c in characters])
    reserved = [
        (font, c) for c in (*GREEK, *CYRILLIC, *DIGITS) for font in FONTS[::2] if has(font, c)
    ]
    like_reserved = (looks @ _looks(reserved).T).amax(1) > LIKE_RESERVED
    alike = looks @ looks.T > LIKE_ANOTHER
    kept: list[int] = []
    for i, character in enumerate(characters):
        basic = character.isascii()
        other = bool(like_reserved[i]) or _is_bar(fonts[character][0], character)
        if (basic or not other) and not alike[i, kept].any():
            kept.append(i)
    return {characters[i]: fonts[characters[i]] for i in kept}


def _looks(glyphs: list[tuple[str, str]]) -> torch.Tensor:
    """Plates at a quarter of their size, blurred, as unit vectors: cosines are their products."""
    images = np.stack([plate(font, character) for font, character in glyphs])
    small = F.avg_pool2d(torch.from_numpy(images).unsqueeze(1).float(), 6, 3)
    return F.normalize(small.flatten(1), dim=1)


def _is_bar(font: str, character: str) -> bool:
    rows, columns = np.nonzero(plate(font, character))
    sides = (np.ptp(rows) + 1, np.ptp(columns) + 1)
    return bool(max(sides) > _MAX_ASPECT * min(sides))
