"""Image tasks about more than which character it is: its font, how it is turned, two at once.

The small backbone tells characters apart; what these tasks ask it was never trained for, and its
frozen features answer badly. Letters are in fonts in which it has seen none where the class is a
letter; digits it has seen in no font at all. With two or four classes 16 shots of each are few
images: those tasks are learned from 64 shots or more.
"""

from collections.abc import Callable, Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from coto.tasks.images import ImageTask
from coto.tasks.images.hub import finish
from coto.tasks.images.made import PLATE, as_rows, distortion_of, generator_of, plates, skeleton
from coto.tasks.task import SPLITS, Sources

# Pictures of each part, in equal shares of the classes.
PICTURES = {"train": 1280, "validation": 400, "test": 600, "prototypes": 160}
LEFT = "ABCDEFGHIJ"
TURNS = ("upright", "a quarter to the left", "upside down", "a quarter to the right")
# Labels (n,) to plates (n, 2, 64, 64), with the chance of a generator.
Compose = Callable[[Tensor, Generator], Tensor]


def left(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Two letters side by side; the class is the left one, of ten, and the right one is any."""
    narrow = _narrow(task)

    def compose(labels: Tensor, generator: Generator) -> Tensor:
        places = torch.tensor([task.characters.index(letter) for letter in LEFT])[labels]
        others = torch.randint(len(task.characters), places.shape, generator=generator)
        return _side_by_side(narrow, places, others, generator)

    return _rows(task, sources, list(LEFT), compose)


def same(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Two digits side by side in one font; whether they are the same."""
    narrow = _narrow(task)

    def compose(labels: Tensor, generator: Generator) -> Tensor:
        digits, others = _two_digits(len(labels), generator)
        rights = torch.where(labels == 1, digits, others)
        return _side_by_side(narrow, digits, rights, generator, one_font=True)

    return _rows(task, sources, ["different", "same"], compose)


def smaller(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Two different digits side by side, each in a font of its own; where is the smaller one."""
    narrow = _narrow(task)

    def compose(labels: Tensor, generator: Generator) -> Tensor:
        low, high = torch.stack(_two_digits(len(labels), generator)).sort(dim=0).values
        on_left = torch.where(labels == 0, low, high)
        return _side_by_side(narrow, on_left, low + high - on_left, generator)

    return _rows(task, sources, ["left", "right"], compose)


def turns(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """A character turned by quarters of a circle, counted anticlockwise."""
    upright = _by_font(task).flatten(0, 1)

    def compose(labels: Tensor, generator: Generator) -> Tensor:
        chosen = upright[torch.randint(len(upright), labels.shape, generator=generator)]
        for quarters in range(1, len(TURNS)):
            chosen[labels == quarters] = chosen[labels == quarters].rot90(quarters, (-2, -1))
        return chosen

    return _rows(task, sources, TURNS, compose)


def fonts(task: ImageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Any letter in one of the fonts, which are the classes."""
    by_font = _by_font(task)

    def compose(labels: Tensor, generator: Generator) -> Tensor:
        letters = torch.randint(len(task.characters), labels.shape, generator=generator)
        return by_font[labels, letters]

    return _rows(task, sources, task.fonts, compose)


def _rows(
    task: ImageTask, sources: Sources, names: Sequence[str], compose: Compose
) -> dict[str, pd.DataFrame]:
    """Every part, of a generator of its own: no picture of one part is one of another."""
    frames: dict[str, pd.DataFrame] = {}
    for part in ("prototypes",) if sources.prototypes else SPLITS:
        labels = torch.arange(len(names)).repeat_interleave(PICTURES[part] // len(names))
        generator = generator_of(task, part)
        composed = compose(labels, generator)
        frame = as_rows(composed, labels.numpy(), distortion_of(task), generator, part)
        frames[part] = frame.reset_index(names="idx")
    return finish(task, frames, names, sources)


def _by_font(task: ImageTask) -> Tensor:
    """Plates of all the task's characters, (fonts, characters, 2, 64, 64)."""
    return torch.stack([plates([(font, c) for c in task.characters]) for font in task.fonts])


def _narrow(task: ImageTask) -> Tensor:
    """The same squeezed to half their width, (fonts, characters, 2, 64, 32)."""
    filled = _by_font(task)[:, :, 0]
    half = F.interpolate(filled.float(), (PLATE, PLATE // 2), mode="area").round().to(torch.uint8)
    lines = skeleton(half.flatten(0, 1) >= 128).view(half.shape).to(torch.uint8) * 255
    return torch.stack([half, lines], dim=2)


def _side_by_side(
    narrow: Tensor, lefts: Tensor, rights: Tensor, generator: Generator, *, one_font: bool = False
) -> Tensor:
    """Pairs of characters, by their places, each in any of the fonts, or both in the same one."""
    font = torch.randint(len(narrow), (1 if one_font else 2, len(lefts)), generator=generator)
    return torch.cat([narrow[font[0], lefts], narrow[font[-1], rights]], dim=-1)


def _two_digits(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """So many pairs of different digits."""
    digits = torch.randint(10, (count,), generator=generator)
    return digits, (digits + torch.randint(1, 10, (count,), generator=generator)) % 10
