"""Structured pruning: whole adapters are removed, nothing is retrained (paper, Section 5)."""

import re
from collections.abc import Callable, Iterable

from coto.errors import CotoError
from coto.operators.adapter import LowRankAdapter
from coto.operators.place import place_of

# Positions of the layers that stay, counted from 0 within one encoder, by the number of layers.
_LAYERS: dict[str, Callable[[int], range]] = {
    "low": lambda count: range(round(count / 3)),
    "middle": lambda count: range(round(count / 3), round(2 * count / 3)),
    "high": lambda count: range(round(2 * count / 3), count),
    "odd": lambda count: range(0, count, 2),
    "even": lambda count: range(1, count, 2),
}
# What models call the two encoders of a CLIP.
_ENCODERS = {
    "text": re.compile(r"(^|\.)text"),
    "vision": re.compile(r"(^|\.)(vision|visual)"),
}


def kept(modules: Iterable[str], keep: str, projections: dict[str, str]) -> frozenset[str]:
    """The modules whose adapters stay.

    ``all``; ``odd`` and ``even`` keep every other layer, counted from 1 (the paper's *everyother*
    does not say which, so both are given); ``low``, ``middle`` and ``high`` a third of the layers
    each, from the input up; ``query``, ``key`` and ``value`` that projection in all layers;
    ``text`` and ``vision`` one encoder of a model that has both. Layers count within their encoder.

    Args:
        modules: names of the adapted modules.
        keep: one of the names above.
        projections: the backbone's names of ``query``, ``key`` and ``value``.

    Raises:
        CotoError: if nothing would stay, `keep` is unknown, or is an encoder of a model of one.
    """
    modules = list(modules)
    stacks: dict[str, set[int]] = {}
    for module in modules:
        stack, layer = place_of(module)
        stacks.setdefault(stack, set()).add(layer)
    stays: Callable[[str], bool]
    if keep == "all":
        stays = lambda module: True  # noqa: E731
    elif keep in _LAYERS:
        chosen_layers = {
            (stack, sorted(layers)[position])
            for stack, layers in stacks.items()
            for position in _LAYERS[keep](len(layers))
        }
        stays = lambda module: place_of(module) in chosen_layers  # noqa: E731
    elif keep in projections:
        stays = lambda module: f".{module}".endswith(f".{projections[keep]}")  # noqa: E731
    elif keep in _ENCODERS:
        if len(stacks) < 2:
            raise CotoError(
                f"prune.keep = {keep!r}: expected a model of a text and a vision encoder"
            )
        stays = lambda module: _ENCODERS[keep].search(place_of(module)[0]) is not None  # noqa: E731
    else:
        known = ("all", *_LAYERS, *projections, *_ENCODERS)
        raise CotoError(f"prune.keep = {keep!r}: expected one of {', '.join(known)}")
    chosen = frozenset(module for module in modules if stays(module))
    if not chosen:
        raise CotoError(
            f"prune.keep = {keep!r}: expected an adapter to stay, none of {len(modules)} does"
        )
    return chosen


def prune(adapter: LowRankAdapter, keep: frozenset[str]) -> LowRankAdapter:
    """The adapter with only the modules in `keep`; heads stay."""
    modules = {name: factors for name, factors in adapter.modules.items() if name in keep}
    return LowRankAdapter(adapter.kind, adapter.scaling, modules, adapter.heads)
