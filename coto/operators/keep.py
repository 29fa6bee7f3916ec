"""Structured pruning: which adapters stay when whole ones are removed (paper, Section 5)."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, get_args

from coto.errors import CotoError
from coto.registry import Registry, expected_one_of
from coto.settings import Projection

if TYPE_CHECKING:
    from coto.adapters.delta import LowRankAdapter

Modules = Collection[str]
Names = Mapping[Any, str]
Rule = Callable[[Modules, Names], Modules]
"""From names of adapted modules, and of the backbone's projections by ours, to those that stay."""


@dataclass(frozen=True)
class Keep:
    """One way of choosing the adapters that stay: a config's name, one line, and the rule."""

    name: str
    summary: str
    rule: Rule


KEEP: Registry[Keep] = Registry("prune.keep")


def kept(modules: Modules, keep: str, projections: Names) -> frozenset[str]:
    """The modules whose adapters stay with the mode `keep` of :data:`KEEP`.

    CotoError if nothing would stay, `keep` is unknown, or names what the model has not.
    """
    chosen = frozenset(KEEP[keep].rule(modules, projections))
    if not chosen:
        raise CotoError(
            f"prune.keep = {keep!r}: expected an adapter to stay, none of {len(modules)} does"
        )
    return chosen


def prune(adapter: "LowRankAdapter", keep: frozenset[str]) -> "LowRankAdapter":
    """The adapter with only the modules in `keep`; heads stay."""
    modules = {name: parts for name, parts in adapter.modules.items() if name in keep}
    return replace(adapter, modules=modules)


def _layers(positions: Callable[[int], range], modules: Modules, _: Names) -> Modules:
    """Keep layers by their position in their encoder, given the number of layers in it."""
    places, stay = _places(modules), set()
    for _stack, members in groupby(sorted(set(places.values())), key=itemgetter(0)):
        layers = list(members)
        stay |= {layers[position] for position in positions(len(layers))}
    return [module for module, place in places.items() if place in stay]


def _projection(name: str, modules: Modules, projections: Names) -> Modules:
    """Keep one projection in all layers."""
    if name not in projections:
        known = expected_one_of(name, projections)
        raise CotoError(f"prune.keep = {name!r}: not a projection of the backbone: {known}")
    return [m for m in modules if f".{m}".endswith(f".{projections[name]}")]


def _encoder(name: str, pattern: str, modules: Modules, _: Names) -> Modules:
    """Keep one encoder of a model of two, by what models call it."""
    places = _places(modules)
    if len({stack for stack, _layer in places.values()}) < 2:
        raise CotoError(f"prune.keep = {name!r}: expected a model of a text and a vision encoder")
    return [module for module, (stack, _layer) in places.items() if re.search(pattern, stack)]


def _places(modules: Collection[str]) -> dict[str, tuple[str, int]]:
    from coto.adapters.delta import place_of  # imports torch, which a config does without

    return {module: place_of(module) for module in modules}


# The paper's "everyother" does not say which layers, so both are given. Layers count from 1.
KEEP.add(Keep("all", "all adapters", lambda modules, projections: modules))
for _name, _summary, _positions in (
    ("odd", "layers 1, 3, 5, …", lambda n: range(0, n, 2)),
    ("even", "layers 2, 4, 6, …", lambda n: range(1, n, 2)),
    ("low", "the first third of the layers", lambda n: range(round(n / 3))),
    ("middle", "the second third", lambda n: range(round(n / 3), round(2 * n / 3))),
    ("high", "the last third", lambda n: range(round(2 * n / 3), n)),
):
    KEEP.add(Keep(_name, _summary, partial(_layers, _positions)))
for _name in get_args(Projection):
    KEEP.add(Keep(_name, f"the {_name} projection in all layers", partial(_projection, _name)))
for _name, _summary, _pattern in (
    ("text", "the text encoder of a model of two", r"(^|\.)text"),
    ("vision", "the image encoder", r"(^|\.)(vision|visual)"),
):
    KEEP.add(Keep(_name, _summary, partial(_encoder, _name, _pattern)))
