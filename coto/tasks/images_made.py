"""Image tasks that are computed: scikit-learn's scans of digits, and characters from fonts."""

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits

from coto.tasks.distort import Distortion, draw, to_bytes
from coto.tasks.glyphs import plates
from coto.tasks.image_files import content_key, png
from coto.tasks.images import ImageTask
from coto.tasks.splits import digest, split_of

# Pictures of each class. Train has room for three draws of 16 shots that hardly overlap.
PER_CLASS = {"train": 48, "validation": 16, "test": 48}
SIDE = 32  # px
SCANS_TEST_SHARE = 0.5


def rows(task: ImageTask) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Split -> rows ``image``, ``label``, ``idx`` and ``order``; and the classes' names."""
    return _scans() if task.made_from == "scans" else _rendered(task)


def _scans() -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The 1,797 scans; equal ones share a split, since it follows from the pixels."""
    scans = load_digits()
    pixels = np.rint(scans.images * (255 / 16)).astype(np.uint8)
    frame = pd.DataFrame(
        {
            "image": [png(image) for image in pixels],
            "label": scans.target.astype("int64"),
            "idx": np.arange(len(pixels)),
            # Not the file: how a PNG is packed is up to the library's version.
            "order": [content_key(image.tobytes()) for image in pixels],
        }
    )
    part = frame["order"].map(lambda key: split_of(key, test_share=SCANS_TEST_SHARE))
    return {split: frame[part == split] for split in PER_CLASS}, [str(n) for n in range(10)]


def _rendered(task: ImageTask) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """New pictures for every split: same characters, same fonts, other chance.

    Each (font, split) has a generator of its own, so no picture of one split is one of another,
    and what is drawn in one font does not hang on the others.
    """
    distortion = hardened(task.hardness, task.hand)
    parts: dict[str, list[pd.DataFrame]] = {split: [] for split in PER_CLASS}
    for place, font in enumerate(task.fonts):
        own = plates([(font, character) for character in task.characters])
        for split, count in PER_CLASS.items():
            labels = np.tile(np.arange(len(own)), len(range(place, count, len(task.fonts))))
            seed = int(digest("glyphs", task.name, split, font)[:15], 16)
            generator = torch.Generator().manual_seed(seed)
            pictures = to_bytes(draw(own[labels], distortion, generator, SIDE)).numpy()
            part = {
                "image": [png(picture) for picture in pictures],
                "label": labels,
                # By number, not by content: a pixel's last bit may differ between processors.
                "order": [digest("picture", split, font, str(n)) for n in range(len(labels))],
            }
            parts[split].append(pd.DataFrame(part))
    frames = {split: pd.concat(part, ignore_index=True) for split, part in parts.items()}
    return {split: frame.assign(idx=frame.index) for split, frame in frames.items()}, list(
        task.characters
    )


def hardened(hardness: float, hand: float) -> Distortion:
    """Pretraining's distortion with its pose and waves times `hardness`, as dark ink on paper.

    Pen and pose make the difficulty. Light that is anything would only keep raw pixels, which a
    backbone is compared with, from saying anything.
    """
    usual = Distortion()
    return Distortion(
        hand=hand,
        rotate=usual.rotate * hardness,
        shear=usual.shear * hardness,
        scale=usual.scale * hardness,
        shift=usual.shift * hardness,
        elastic=usual.elastic * hardness,
        contrast=0.6,
        inverted=0.0,
    )
