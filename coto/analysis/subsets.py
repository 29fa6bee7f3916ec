"""One sweep over an adapter's subsets for Shapley values, dropout stability and Theorem 3.1."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from coto.adapters.delta import Base, place_of
from coto.analysis import shapley, stability
from coto.analysis.shapley import Array, Mask, Value
from coto.errors import CotoError
from coto.models.base import Scores
from coto.models.scoring import cross_entropy, squared_error

log = logging.getLogger(__name__)

Row = dict[str, Any]
Unit = Literal["block", "module"]
Scorer = Callable[[Base, Sequence[frozenset[str]]], list[list[Scores]]]
"""Scores, one list per set of modules whose ΔW is on."""
# What is worth having: a higher score, a lower loss.
WORTH: dict[str, Callable[[Scores], float]] = {
    "score": lambda scores: scores.metrics[scores.headline],
    "loss": lambda scores: -scores.loss,
}
NOBODY = {"player": "", "stack": "", "layer": -1, "projection": ""}


@dataclass(frozen=True)
class Player:
    """Adapters that are kept or dropped together.

    Named like ``encoder.layer.3.query`` or, of joined blocks, ``encoder.layer.2-3``, whose `layer`
    is the first one in its `stack` and whose `projection` is empty.
    """

    name: str
    stack: str
    layer: int
    projection: str
    modules: frozenset[str]


def players(
    modules: Iterable[str], unit: Unit, projections: Mapping[str, str], groups: int | None = None
) -> list[Player]:
    """The players of a game: a block's adapters together or each one; by stack, projection, layer.

    `projections` are the backbone's names of ``query``, ``key``, … Neighbouring layers are joined
    until about so many `groups` are left, equally many in every stack and projection.
    """
    if unit not in ("block", "module"):
        raise CotoError(f"players = {unit!r}: expected block or module")
    lanes: dict[tuple[str, str], dict[int, set[str]]] = {}
    for module in modules:
        stack, layer = place_of(module)
        projection = "" if unit == "block" else _projection(module, projections)
        lanes.setdefault((stack, projection), {}).setdefault(layer, set()).add(module)
    game = []
    for (stack, projection), layers in sorted(lanes.items()):
        room = len(layers) if groups is None else max(1, round(groups / len(lanes)))
        for joined in np.array_split(sorted(layers), min(room, len(layers))):
            numbers = [int(layer) for layer in joined]
            span = "-".join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))
            name = ".".join(filter(None, (stack, span, projection)))
            members = frozenset().union(*(layers[layer] for layer in numbers))
            game.append(Player(name, stack, numbers[0], projection, members))
    return game


def kept_modules(game: Sequence[Player], mask: Mask) -> frozenset[str]:
    """The modules of the players that a mask keeps."""
    return frozenset().union(*(p.modules for p, on in zip(game, mask, strict=True) if on))


def _projection(module: str, projections: Mapping[str, str]) -> str:
    """What a module is in its block, by our name for it where there is one."""
    names = (name for name, own in projections.items() if f".{module}".endswith(f".{own}"))
    return next(names, module.rpartition(".")[2])


@dataclass(frozen=True)
class Questions:
    """What is asked: of which players (:func:`players`), and with which sampling of Shapley values.

    For dropout stability: subsets of each size at most, and chances q that a layer is kept.
    """

    players: Unit
    groups: int | None
    sampling: shapley.Sampling | None
    samples: int
    chances: tuple[float, ...]


@dataclass(frozen=True)
class Sweep:
    """Scores, one per evaluation set, by the modules that are on; and `scaled`, with (j/n)ΔW.

    The `game` has the players of the Shapley values, `layers` those of stability and the theorem.
    """

    asked: Questions
    game: list[Player]
    layers: list[Player]
    table: dict[frozenset[str], list[Scores]]
    scaled: list[list[Scores]]

    @property
    def sets(self) -> list[str]:
        """Names of the evaluation sets."""
        return [scores.task for scores in self.scaled[0]]

    def of(self, who: list[Player], index: int) -> Callable[[Mask], Scores]:
        """Scores on one evaluation set with the players of a mask."""
        return lambda mask: self.table[kept_modules(who, mask)][index]

    def rows(self, index: int) -> Iterator[Row]:
        """Rows of all analyses on one evaluation set."""
        of_game, of_layers = self.of(self.game, index), self.of(self.layers, index)
        size = len(self.layers), self.asked.samples
        for measure, worth in WORTH.items():
            yield from self._shapley(measure, lambda m: worth(of_game(m)))  # noqa: B023
            sign = -1 if measure == "loss" else 1
            means = stability.stability(lambda m: sign * worth(of_layers(m)), *size)  # noqa: B023
            for q in self.asked.chances:
                value, error = means.kept_with(q)
                yield _at("stability", measure, q, value, error)
            if measure == "loss":
                yield from self._theorem(index, means.means)

    def _shapley(self, measure: str, value: Value) -> Iterator[Row]:
        values = shapley.shapley(value, len(self.game), self.asked.sampling)
        for one, phi, error in zip(self.game, values.values, values.errors, strict=True):
            who = {"stack": one.stack, "layer": one.layer, "projection": one.projection}
            yield _at("shapley", measure, 0, phi, error, player=one.name, **who)
        yield _at("shapley", measure, 0, values.total, values.total_error, player="total")
        if not values.efficient():
            log.warning("Shapley values in %s miss their total by %.3g", measure, values.residual)

    def _theorem(self, index: int, losses: Array) -> Iterator[Row]:
        """The expected loss, and its bounds by averaged weights and, of classifiers, outputs."""
        references = {"mean-weights": np.array([scores[index].loss for scores in self.scaled])}
        of_layers, targets = self.of(self.layers, index), self.scaled[0][index].targets
        if targets is not None:
            size = len(self.layers), self.asked.samples
            averaged = stability.mean_outputs(
                lambda m: np.asarray(of_layers(m).outputs, dtype=float), *size
            )
            loss = squared_error if averaged[0].shape[1] == 1 else cross_entropy
            references["mean-outputs"] = np.array([loss(outputs, targets) for outputs in averaged])
        grid = np.array(self.asked.chances)
        curves = {name: stability.bound(losses, of, grid) for name, of in references.items()}
        values = {name: curve.bound for name, curve in curves.items()}
        values["expected"] = curves["mean-weights"].expected
        for measure, curve in values.items():
            for p, value in zip(grid, curve, strict=True):
                yield _at("theorem", measure, p, value)


def sweep_subsets(
    score: Scorer, change: Base, projections: Mapping[Any, str], asked: Questions
) -> Sweep:
    """Score every subset that the analyses ask for, given ΔW and the model's projections' names."""
    game = players(change, asked.players, projections, asked.groups)
    layers = players(change, "block", projections, asked.groups)
    if len(game) <= shapley.EXACT_PLAYERS:
        asked = replace(asked, sampling=None)
    wanted = [
        (game, shapley.required_masks(len(game), asked.sampling)),
        (layers, stability.required_masks(len(layers), asked.samples)),
    ]
    sets = list(dict.fromkeys(kept_modules(who, mask) for who, masks in wanted for mask in masks))
    table = dict(zip(sets, score(change, sets), strict=True))
    none, whole = frozenset[str](), frozenset(change)
    between = [
        score({name: j / len(layers) * matrix for name, matrix in change.items()}, [whole])[0]
        for j in range(1, len(layers))
    ]
    return Sweep(asked, game, layers, table, [table[none], *between, table[whole]])


def _at(analysis: str, measure: str, x: float, value: float, error: float = 0.0, **who: Any) -> Row:
    place = {"analysis": analysis, "measure": measure, "x": float(x)}
    return {**place, **NOBODY, **who, "value": float(value), "error": float(error)}
