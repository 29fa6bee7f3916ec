"""Scoring changed adapters after a training: ``python -m benchmarks after_training``.

One run's states: interpolation with a second run by two operators, every way of pruning, and all
subsets of nine players, 512. This project's own jobs against two peers on the same rows and the
same adapters: a loop that loads the model for every state, and a loop in one process that puts
W₀ + ΔW of each state into one model. Seconds are per state. All states of a loop cost the same, so
that it takes a sample of them.
"""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from benchmarks.common import project
from benchmarks.common.harness import BENCHMARKS, Bench, Benchmark, Row, Way, alternate
from coto import record
from coto.adapters.delta import Deltas, LowRankAdapter, deltas
from coto.adapters.store import read_adapter
from coto.analysis.subsets import kept_modules, players
from coto.config.plan import Plan
from coto.measurements import MEASUREMENTS
from coto.measurements.base import Cell
from coto.measurements.interpolate import Interpolate
from coto.measurements.prune import Prune
from coto.models.base import TaskModel
from coto.models.weights import base_weights, changed
from coto.operators.keep import kept
from coto.operators.merge import ensemble, fusion
from coto.operators.operator import PRUNING
from coto.settings import Model, Positive
from coto.tasks.registry import TASKS

_SUITE, _TASK = "glue", "movies"
_JOBS = {
    "interpolation": ("interpolate", {"seeds": "0-1"}),
    "pruning": ("prune", {"seed": "0"}),
    "subsets": ("subnetworks", {"seed": "0"}),
}
State = Callable[[], Deltas]
"""Makes the ΔW of a state."""


class Settings(Model):
    """How much is scored."""

    rows: Positive = Field(96, description="Items that every state is scored on.")
    weights: Positive = Field(11, description="Weights of interpolation, both ends among them.")
    groups: Positive = Field(9, description="Players, whose subsets are all scored.")
    looped: Positive = Field(48, description="States in a round of the loop.")
    reloaded: Positive = Field(6, description="States in a round of reloading.")


def run(bench: Bench[Settings]) -> list[Row]:
    """Rows of each kind of state: what the peers need for one, in shares of what the jobs need."""
    plan = _plan(bench)
    rows = project.rows(plan, _SUITE, _TASK, "test")
    adapters = [_untrained(plan, seed, bench) for seed in (0, 1)]
    found = []
    for kind, states in _states(plan, adapters, bench).items():
        name, at = _JOBS[kind]
        job = project.job(plan, name, Cell(_SUITE, "", _TASK, "lora", "vanilla", **at))
        ways: dict[str, Way] = {
            "jobs": partial(MEASUREMENTS[name].run, job),
            "loop": _loop(plan, states, rows, bench),
            "reloading": _reloading(plan, states, rows, bench),
        }
        counts = {
            "jobs": len(states),
            "loop": min(bench.settings.looped, len(states)),
            "reloading": min(bench.settings.reloaded, len(states)),
        }
        timings = alternate(ways, bench.rounds).per(counts)
        peers = [
            timings.row(kind, way, "jobs", states=len(states)) for way in ("loop", "reloading")
        ]
        found += peers
    return found


def _plan(bench: Bench[Settings]) -> Plan:
    settings = bench.settings
    weights = np.linspace(0, 1, settings.weights).round(4).tolist()
    usual = project.default()["suites"][_SUITE]
    suite = {
        "tasks": [_TASK],
        "adapters": ["lora"],
        "strategies": ["vanilla"],
        "rows": {"test": settings.rows},
        "interpolate": {"weights": weights, "operators": ["fusion", "ensemble"], "halfway": []},
        "prune": {"unstructured": {"methods": list(PRUNING), "repeats": 1}},
        "subnetworks": {"rows": None, "players": "module", "groups": settings.groups}
        | {"early_stop": None},
        "merging": {"save": False},
        **dict.fromkeys(("merge", "overhead", "geometry"), None),
    }
    work = bench.folder / "work" / f"states-{settings.rows}"
    # Nothing of the default configuration but this suite.
    none = {part: dict.fromkeys(project.default()[part]) for part in ("suites", "studies")}
    return project.plan_with(work, none, {"suites": {_SUITE: {**usual, **suite}}})


def _untrained(plan: Plan, seed: int, bench: Bench[Settings]) -> LowRankAdapter:
    """A run's adapter with random factors, where the jobs look for it."""
    rows = project.rows(plan, _SUITE, _TASK, "test")
    settings = project.run(plan, _SUITE, _TASK)
    model = project.adapted(project.load(plan, settings, bench.compute, rows), settings)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    lr = plan.grid(_SUITE, "lora", "vanilla")[0]
    cell = Cell(_SUITE, "", _TASK, "lora", "vanilla", lr=lr, seed=str(seed))
    outputs = project.job(plan, "train", cell).outputs
    model.save_pretrained(str(outputs["adapter"]))
    digest = record.digest(outputs["adapter"])
    record.write(outputs["train"], "train", {}, [], files={".": digest})
    return read_adapter(outputs["adapter"])


def _states(
    plan: Plan, adapters: list[LowRankAdapter], bench: Bench[Settings]
) -> dict[str, list[State]]:
    """Every state that the jobs score, in an order that a sample takes some of each from."""
    suite, adapter = plan.suites[_SUITE], adapters[0]
    settings = project.run(plan, _SUITE, _TASK)
    names = {str(ours): own for ours, own in settings.loading.backbone.projections.items()}
    rows = project.rows(plan, _SUITE, _TASK, "test")
    base = base_weights(
        project.load(plan, settings, bench.compute, rows).model, list(adapter.modules)
    )
    change = deltas(adapter, base)

    def only(modules: frozenset[str]) -> State:
        return lambda: {name: change[name] for name in modules}

    def mixed(weight: float, *, factors: bool) -> State:
        shares = [1 - weight, weight]
        if factors:
            return lambda: deltas(fusion(adapters, shares), base)
        return lambda: ensemble(adapters, shares, base)

    def sparse(name: str, sparsity: float) -> State:
        return lambda: PRUNING[name](adapter, change, base, sparsity, 0)

    pruning, interpolation = suite.need(Prune), suite.need(Interpolate)
    assert pruning.unstructured is not None
    game = players(change, "module", names, bench.settings.groups)
    found = {
        "interpolation": [
            mixed(weight, factors=operator == "fusion")
            for operator in interpolation.operators
            for weight in interpolation.weights
        ],
        "pruning": [
            *(only(kept(change, keep, names)) for keep in pruning.keep),
            *(
                sparse(method, sparsity)
                for method in pruning.unstructured.methods
                for sparsity in pruning.unstructured.sparsities
                if sparsity
            ),
        ],
        "subsets": [
            only(kept_modules(game, np.array(mask)))
            for mask in itertools.product((False, True), repeat=len(game))
        ],
    }
    draw = np.random.default_rng(0)
    return {
        kind: [states[i] for i in draw.permutation(len(states))] for kind, states in found.items()
    }


def _loop(
    plan: Plan, states: list[State], rows: pd.DataFrame, bench: Bench[Settings]
) -> Callable[[], None]:
    """One model in one process, each state's weights put into it in turn."""
    model = _model(plan, rows, bench)

    def score() -> None:
        for state in states[: bench.settings.looped]:
            _score(model, state, rows)

    return score


def _reloading(
    plan: Plan, states: list[State], rows: pd.DataFrame, bench: Bench[Settings]
) -> Callable[[], None]:
    """A fresh model for every state, in one process: the imports are not counted."""

    def score() -> None:
        for state in states[: bench.settings.reloaded]:
            _score(_model(plan, rows, bench), state, rows)

    return score


def _model(plan: Plan, rows: pd.DataFrame, bench: Bench[Settings]) -> TaskModel:
    return project.load(plan, project.run(plan, _SUITE, _TASK), bench.compute, rows)


def _score(model: TaskModel, state: State, rows: pd.DataFrame) -> None:
    with changed(model.model, state(), {}) as whole:
        model.score(whole, TASKS[_TASK], rows)


BENCHMARKS.add(
    Benchmark(
        name="after_training",
        summary="scoring all states of a run against a loop and against reloading",
        settings=Settings,
        quick={"rows": 24, "looped": 16, "reloaded": 3},
        run=run,
    )
)
