"""Who contributes: the adapters of a model as the players of a cooperative game."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from coto.analysis.masks import Mask
from coto.errors import CotoError
from coto.operators.place import place_of

Unit = Literal["block", "module"]


@dataclass(frozen=True)
class Player:
    """Adapters that are kept or dropped together.

    Attributes:
        name: such as ``encoder.layer.3``, ``encoder.layer.3.query`` or, of joined neighbours,
            ``encoder.layer.2-3``.
        stack: list of blocks that it is in, such as ``encoder.layer``.
        layer: its first block, counted from 0 within the stack.
        projection: which projection of the block; empty for whole blocks.
        modules: names of the adapted modules.
    """

    name: str
    stack: str
    layer: int
    projection: str
    modules: frozenset[str]


def players(
    modules: Iterable[str], unit: Unit, projections: Mapping[str, str], groups: int | None = None
) -> list[Player]:
    """The players of a game, by stack, projection and layer.

    Args:
        modules: names of the adapted modules.
        unit: a block's adapters together, or each adapter.
        projections: the backbone's names of ``query``, ``key``, …
        groups: neighbouring layers are joined until about so many players are left, equally many
            in every stack and projection; None joins nothing.

    Raises:
        CotoError: if the unit is unknown.
    """
    if unit not in ("block", "module"):
        raise CotoError(f"players = {unit!r}: expected block or module")
    lanes: dict[tuple[str, str], dict[int, set[str]]] = {}
    for module in modules:
        stack, layer = place_of(module)
        projection = "" if unit == "block" else _projection(module, projections)
        lanes.setdefault((stack, projection), {}).setdefault(layer, set()).add(module)
    found = []
    for (stack, projection), layers in sorted(lanes.items()):
        room = len(layers) if groups is None else max(1, round(groups / len(lanes)))
        for joined in np.array_split(sorted(layers), min(room, len(layers))):
            numbers = [int(layer) for layer in joined]
            span = "-".join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))
            name = ".".join(filter(None, (stack, span, projection)))
            members = frozenset().union(*(layers[layer] for layer in numbers))
            found.append(Player(name, stack, numbers[0], projection, members))
    return found


def kept_modules(game: Sequence[Player], mask: Mask) -> frozenset[str]:
    """The modules of the players that a mask keeps."""
    return frozenset().union(*(p.modules for p, on in zip(game, mask, strict=True) if on))


def _projection(module: str, projections: Mapping[str, str]) -> str:
    """What a module is in its block, by our name for it where there is one."""
    for name, own in projections.items():
        if f".{module}".endswith(f".{own}"):
            return name
    return module.rpartition(".")[2]
