import numpy as np
import pytest
import torch
from scipy import ndimage

from coto.errors import CotoError
from coto.tasks.images import ImageTask
from coto.tasks.images.made import (
    INK,
    PLATE,
    Distortion,
    draw,
    has,
    plate,
    plates,
    skeleton,
    to_bytes,
)
from coto.tasks.registry import TASKS

STILL = Distortion(
    hand=0, rotate=0, shear=0, scale=0, shift=0, elastic=0, blur=0, noise=0, light=0, contrast=1
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("character", ["W", "l", "Ж", "β"])
def test_a_plate_is_centred_and_of_one_size(character: str) -> None:
    image = plate("DejaVuSans", character)
    assert image.shape == (PLATE, PLATE)
    rows, columns = np.nonzero(image > 40)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(INK, abs=1)
    for places in (rows, columns):
        assert (places.min() + places.max()) / 2 == pytest.approx((PLATE - 1) / 2, abs=1)


def test_plates_tell_fonts_and_characters_apart() -> None:
    glyphs = [("DejaVuSans", "A"), ("DejaVuSerif", "A"), ("DejaVuSans", "B"), ("cmr10", "A")]
    drawn = plates(glyphs)[:, 0].flatten(1)
    assert len(drawn.unique(dim=0)) == len(glyphs)


def test_every_font_of_a_task_has_every_character() -> None:
    for task in TASKS.values():
        if not isinstance(task, ImageTask):
            continue
        missing = [(f, c) for f in task.fonts for c in task.characters if not has(f, c)]
        assert missing == [], task.name


def test_missing_glyphs_and_fonts_are_told() -> None:
    assert not has("cmr10", "Ж")
    with pytest.raises(CotoError, match=r"^font 'cmr10': no glyph for 'Ж' \(U\+0416\)"):
        plate("cmr10", "Ж")
    with pytest.raises(CotoError, match=r"^font 'Comic': .* is missing"):
        plate("Comic", "A")


def test_a_skeleton_is_thin_connected_and_inside() -> None:
    glyphs = [("DejaVuSans-Bold", c) for c in "ABHOXs"]
    shapes = plates(glyphs)[:, 0] >= 128
    eight = np.ones((3, 3))
    for shape, line in zip(shapes.numpy(), skeleton(shapes).numpy(), strict=True):
        assert line.any()
        assert not (line & ~shape).any()
        # As many parts and as many holes as the shape: nothing tears, nothing is filled.
        assert ndimage.label(line, eight)[1] == ndimage.label(shape, eight)[1]
        assert ndimage.label(~line)[1] == ndimage.label(~shape)[1]
        # Thin: no 3 x 3 square is full.
        assert not ndimage.binary_erosion(line, eight).any()


def test_without_any_distortion_a_picture_is_its_plate() -> None:
    pair = plates([("DejaVuSans", "R")]).repeat(64, 1, 1, 1)
    drawn = draw(pair, STILL, _generator())
    small = torch.nn.functional.avg_pool2d(pair[:1, :1].float() / 255, 2)
    # A third of the pictures is as the font has it, bright on dark or the other way round.
    same = [(picture - ink).abs().max() for picture in drawn for ink in (small[0], 1 - small[0])]
    assert 20 < sum(difference < 0.35 for difference in same) < 64
    assert min(same) < 0.3


def test_a_seed_says_all() -> None:
    pairs = plates([("DejaVuSans", c) for c in "ABCDEFGH"])
    first, again, other = (draw(pairs, Distortion(), _generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (8, 1, 32, 32)
    assert first.min() >= 0
    assert first.max() <= 1
    assert to_bytes(first).dtype == torch.uint8


def test_a_pen_draws_wider_than_the_skeleton_and_shapes_keep_their_ink() -> None:
    pair = plates([("STIXGeneral", "H")]).repeat(200, 1, 1, 1)
    bright = {name: getattr(STILL, name) for name in STILL.__dataclass_fields__} | {"inverted": 1.0}
    ink = {
        hand: draw(pair, Distortion(**bright | {"hand": hand}), _generator()).sum((1, 2, 3)) * 4
        for hand in (0.0, 1.0)
    }
    shape, line = (pair[0, i].sum() / 255 for i in (0, 1))
    # Three pens; three weights, of which the thinnest keeps half of the ink.
    assert (ink[1.0] > 1.8 * line).all()
    assert ink[0.0].min() > 0.4 * shape
    for amounts in ink.values():
        assert len(amounts.round().unique()) == 3


def test_every_amount_matters() -> None:
    pairs = plates([("DejaVuSans", c) for c in "ABCDEFGH"])
    still = draw(pairs, STILL, _generator())
    for name in STILL.__dataclass_fields__:
        if name in ("lattice", "inverted", "hand"):
            continue
        amounts = {field: getattr(STILL, field) for field in STILL.__dataclass_fields__}
        amounts[name] = 0.5 if name == "contrast" else 1.0
        if name in ("noise", "light", "shift", "scale"):
            amounts[name] = 0.1
        moved = draw(pairs, Distortion(**amounts), _generator())
        assert (moved - still).abs().mean() > 0.003, name
