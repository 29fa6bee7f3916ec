"""Stage ``subnetworks``: an arm's runs with subsets of their adapters, and what these tell.

One sweep scores every subset that is needed; Shapley values, layer-wise dropout stability and the
bound of Theorem 3.1 are all computed from it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coto import record
from coto.adapters.store import read_adapter
from coto.analysis import shapley, stability
from coto.analysis.bound import bound, mean_outputs
from coto.analysis.masks import EXACT_PLAYERS, Array, Mask, Value
from coto.analysis.players import Player, kept_modules, players
from coto.config import paths
from coto.evaluate.losses import cross_entropy, squared_error
from coto.operators.adapter import Deltas, LowRankAdapter, deltas
from coto.stages.evaluation import Evaluator
from coto.stages.job import Job
from coto.tasks.registry import TASKS
from coto.workbench.base import Scores

log = logging.getLogger(__name__)

Row = dict[str, Any]
# What is worth having: a higher score, a lower loss.
WORTH: dict[str, Callable[[Scores], float]] = {
    "score": lambda found: found.metrics[found.headline],
    "loss": lambda found: -found.loss,
}
NOBODY = {"player": "", "stack": "", "layer": -1, "projection": ""}


def run(job: Job, out: Path) -> None:
    """Analyse every run of one seed, and CoTo's as it was when it might have been stopped.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.subnetworks`.
        out: the record. Shapley values in loss are of *minus* the loss, so that help is positive.
    """
    settings, chosen = job.settings, job.settings["subnetworks"]
    evaluator = Evaluator(job, limit=chosen["rows"])
    rows: list[Row] = []
    for task in settings["tasks"]:
        folder = job.adapter(task, settings["seed"])
        looks = {settings["strategy"]: folder}
        if chosen["early_stop"] is not None:
            early = paths.snapshot(str(folder), chosen["early_stop"])
            looks[f"{settings['strategy']}-early"] = Path(early)
        for strategy, where in looks.items():
            arm = {name: settings[name] for name in ("suite", "adapter", "seed")}
            arm |= {"trained_on": TASKS[task].name, "strategy": strategy}
            adapter = read_adapter(where)
            sweep = _swept(evaluator, task, adapter, settings)
            for index, name in enumerate(sweep.names):
                found = [{**arm, "task": name, **row} for row in _analyses(sweep, index, chosen)]
                rows += [{**row, "evaluations": len(sweep.table)} for row in found]
            log.info("%s, %s: %d subsets", task, strategy, len(sweep.table))
    record.write(out, "subnetworks", settings, rows, evaluator.compute.describe(job.threads))


@dataclass(frozen=True)
class Sweep:
    """Scores of every subset that the analyses ask for.

    Attributes:
        game: players of the Shapley values.
        layers: players of dropout stability and of the theorem.
        table: scores by the modules that are on, one per evaluation set.
        scaled: scores with (j/n)ΔW, for j = 0 … n layers.
    """

    game: list[Player]
    layers: list[Player]
    table: dict[frozenset[str], list[Scores]]
    scaled: list[list[Scores]]

    @property
    def names(self) -> list[str]:
        """Names of the evaluation sets."""
        return [found.task for found in self.scaled[0]]

    def of(self, who: list[Player], index: int) -> Callable[[Mask], Scores]:
        """Scores on one evaluation set with the players of a mask."""
        return lambda mask: self.table[kept_modules(who, mask)][index]


def _swept(
    evaluator: Evaluator, task: str, adapter: LowRankAdapter, settings: Mapping[str, Any]
) -> Sweep:
    chosen, names = settings["subnetworks"], settings["backbone"]["projections"]
    game = players(adapter.modules, chosen["players"], names, chosen["groups"])
    layers = players(adapter.modules, "block", names, chosen["groups"])
    asked = [
        (game, shapley.required_masks(len(game), _sampling(game, chosen))),
        (layers, stability.required_masks(len(layers), chosen["samples"])),
    ]
    sets = list(dict.fromkeys(kept_modules(who, mask) for who, masks in asked for mask in masks))
    base = evaluator.weights(list(adapter.modules))
    change = deltas(adapter, base)
    table = dict(zip(sets, evaluator.sweep(task, change, adapter.heads, sets), strict=True))
    none, whole = frozenset[str](), frozenset(change)
    between = [
        evaluator.sweep(task, _scaled(change, j / len(layers)), adapter.heads, [whole])[0]
        for j in range(1, len(layers))
    ]
    return Sweep(game, layers, table, [table[none], *between, table[whole]])


def _sampling(game: list[Player], chosen: dict[str, Any]) -> shapley.Sampling | None:
    """None where all subsets are few enough."""
    if len(game) <= EXACT_PLAYERS:
        return None
    return shapley.Sampling(chosen["levels"], chosen["pairs"])


def _scaled(change: Deltas, share: float) -> Deltas:
    return {name: share * matrix for name, matrix in change.items()}


def _analyses(sweep: Sweep, index: int, chosen: dict[str, Any]) -> Iterator[Row]:
    """Rows of all analyses on one evaluation set."""
    for measure, worth in WORTH.items():
        of_game, of_layers = sweep.of(sweep.game, index), sweep.of(sweep.layers, index)
        yield from _shapley(sweep.game, measure, lambda m: worth(of_game(m)), chosen)  # noqa: B023
        sign = -1 if measure == "loss" else 1
        means = stability.stability(
            lambda m: sign * worth(of_layers(m)),  # noqa: B023
            len(sweep.layers),
            chosen["samples"],
        )
        for q in chosen["keep_probabilities"]:
            value, error = means.kept_with(q)
            yield _at("stability", measure, q, value, error)
        if measure == "loss":
            yield from _theorem(sweep, index, means.means, chosen)


def _shapley(
    game: list[Player], measure: str, value: Value, chosen: dict[str, Any]
) -> Iterator[Row]:
    found = shapley.shapley(value, len(game), _sampling(game, chosen))
    place = {"analysis": "shapley", "measure": measure, "x": 0.0}
    for player, phi, error in zip(game, found.values, found.errors, strict=True):
        who = {"player": player.name, "stack": player.stack, "layer": player.layer}
        who |= {"projection": player.projection}
        yield {**place, **who, "value": float(phi), "error": float(error)}
    total = {"player": "total", "value": found.total, "error": found.total_error}
    yield {**place, **NOBODY, **total}
    if not found.efficient():
        log.warning("Shapley values in %s miss their total by %.3g", measure, found.residual)


def _theorem(sweep: Sweep, index: int, losses: Array, chosen: dict[str, Any]) -> Iterator[Row]:
    """The expected loss, and its bounds by averaged weights and, of classifiers, outputs."""
    references = {"mean-weights": np.array([found[index].loss for found in sweep.scaled])}
    of_layers, targets = sweep.of(sweep.layers, index), sweep.scaled[0][index].targets
    if targets is not None:
        averaged = mean_outputs(
            lambda m: np.asarray(of_layers(m).outputs, dtype=float),
            len(sweep.layers),
            chosen["samples"],
        )
        loss = squared_error if averaged[0].shape[1] == 1 else cross_entropy
        references["mean-outputs"] = np.array([loss(outputs, targets) for outputs in averaged])
    grid = np.array(chosen["keep_probabilities"])
    curves = {name: bound(losses, reference, grid) for name, reference in references.items()}
    values = {name: found.bound for name, found in curves.items()}
    values["expected"] = curves["mean-weights"].expected
    for measure, curve in values.items():
        for p, value in zip(grid, curve, strict=True):
            yield _at("theorem", measure, p, value)


def _at(analysis: str, measure: str, x: float, value: float, error: float = 0.0) -> Row:
    place = {"analysis": analysis, "measure": measure, "x": float(x)}
    return {**place, **NOBODY, "value": float(value), "error": float(error)}
