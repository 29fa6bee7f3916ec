"""Structured pruning: whole adapters are removed, nothing is retrained (paper, Section 5)."""

import re
from collections.abc import Callable, Iterable

from coto.errors import CotoError
from coto.operators.adapter import LowRankAdapter


def layer_of(module: str) -> int:
    """Index of the transformer block that a module is in: its first number.

    Raises:
        CotoError: if the name has none.
    """
    found = re.search(r"\.(\d+)\.", module)
    if found is None:
        raise CotoError(f"module {module!r}: expected a layer number in its name")
    return int(found[1])


def kept(modules: Iterable[str], keep: str, projections: dict[str, str]) -> frozenset[str]:
    """The modules whose adapters stay.

    ``all``; ``odd`` and ``even`` keep every other layer, counted from 1 (the paper's *everyother*
    does not say which, so both are given); ``low``, ``middle`` and ``high`` a third of the layers
    each, from the input up; ``query``, ``key`` and ``value`` that projection in all layers.

    Args:
        modules: names of the adapted modules.
        keep: one of the names above.
        projections: the backbone's names of ``query``, ``key`` and ``value``.

    Raises:
        CotoError: if nothing would stay or `keep` is unknown.
    """
    modules = list(modules)
    layers = sorted({layer_of(module) for module in modules})
    position = {layer: index for index, layer in enumerate(layers)}
    third = len(layers) / 3
    ranges = {
        "low": range(round(third)),
        "middle": range(round(third), round(2 * third)),
        "high": range(round(2 * third), len(layers)),
        "odd": range(0, len(layers), 2),
        "even": range(1, len(layers), 2),
    }
    stays: Callable[[str], bool]
    if keep == "all":
        stays = lambda module: True  # noqa: E731
    elif keep in ranges:
        stays = lambda module: position[layer_of(module)] in ranges[keep]  # noqa: E731
    elif keep in projections:
        stays = lambda module: module.rpartition(".")[2] == projections[keep]  # noqa: E731
    else:
        raise CotoError(
            f"prune.keep = {keep!r}: expected one of all, {', '.join(ranges)}, "
            + ", ".join(projections)
        )
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
