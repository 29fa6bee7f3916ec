"""``python -m tools.simulate_verdicts``: how often verdicts are wrong, for docs/verdicts.md.

Draws effects of which the truth is known, of tasks and seeds that vary as the records do, and
decides on them with the functions that decide on claims. Prints the tables in Markdown.
``python -m tools.simulate_verdicts RESULTS`` prints the variances in a run's records instead.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from coto.findings import load_all
from coto.report.claim import CLAIMS
from coto.report.comparison import paired
from coto.report.quantities import STRATEGY
from coto.report.records import load_frames
from coto.report.statistics import (
    Array,
    Flags,
    decide,
    holm,
    p_values,
    pseudo_values,
    standard_error,
)
from coto.report.writing import markdown_table

LEVEL, MARGIN = 0.05, 1.0
# Standard deviations in points, about as records of laptop runs show them: of the tasks' effects
# (fixed, so that only their average is at the null or at the margin), of what a seed does to all
# tasks, of what is left; and how many test items a score is a mean of, so that it is coarse.
SPREADS: dict[str, tuple[float, float, float, int]] = {
    "images": (0.5, 0.3, 0.5, 400),
    "text": (4.0, 4.0, 6.0, 100),
    "questions": (3.0, 1.0, 5.0, 24),
    "seeds alone": (0.0, 3.0, 0.0, 400),
}
Tail = Literal["normal", "heavy", "skewed"]


@dataclass(frozen=True)
class World:
    """What is drawn: a family of claims, each on some tasks and seeds.

    Attributes:
        tasks: of every claim.
        seeds: of every task.
        claims: in the family; a third of the variance of seeds is common to all of them.
        spread: a name of ``SPREADS``.
        tail: of what seeds and what is left do; all have mean 0 and variance 1.
        pairs: whether values are of pairs of seeds, half of the seeds' variance of single ones.
        gated: whether a claim counts only where vanilla's own number, of which the effect is the
            part that CoTo wins back, passes a check of sensitivity.
    """

    tasks: int = 4
    seeds: int = 3
    claims: int = 1
    spread: str = "text"
    tail: Tail = "normal"
    pairs: bool = False
    gated: bool = False


def _draw(rng: np.random.Generator, tail: Tail, shape: tuple[int, ...]) -> Array:
    """Noise of mean 0 and variance 1."""
    if tail == "heavy":
        return rng.standard_t(4, shape) / math.sqrt(2)
    if tail == "skewed":
        return rng.exponential(1.0, shape) - 1
    return rng.standard_normal(shape)


def _items(rng: np.random.Generator, items: int, shape: tuple[int, ...]) -> Array:
    """What a draw of test items does to a difference of two scores, in points.

    A tenth of the items is answered right by one arm alone, and as many by the other alone.
    """
    ours = rng.binomial(items, 0.1, shape)
    theirs = rng.binomial(items - ours, 0.1 / 0.9)
    return 100 * (ours - theirs) / items


def effects(world: World, true: float, runs: int, rng: np.random.Generator) -> Array:
    """Values per seed (runs, claims, seeds) whose true mean is `true`, in points."""
    task, seed, rest, items = SPREADS[world.spread]
    mixtures = list(combinations(range(world.seeds), 2)) if world.pairs else []
    count = len(mixtures) or world.seeds
    whole, per_task = (runs, world.claims, 1), (runs, world.claims, world.tasks)
    of_task = task * rng.standard_normal((*per_task, 1))
    of_task -= of_task.mean(-2, keepdims=True)
    common = _draw(rng, world.tail, (runs, 1, 1, world.seeds))
    of_seed = _draw(rng, world.tail, (*whole, world.seeds))
    of_seed = seed * (common + math.sqrt(2) * of_seed) / math.sqrt(3)
    if mixtures:
        of_seed = np.stack([of_seed[..., a] + of_seed[..., b] for a, b in mixtures], -1) / 2
    left = rest * _draw(rng, world.tail, (*per_task, count))
    noise = of_task + of_seed + left + _items(rng, items, (*per_task, count))
    values = true + noise.mean(-2)
    return pseudo_values(values, mixtures) if mixtures else values


def sensitive(
    world: World, own: float, effect: Array, needed: float, rng: np.random.Generator
) -> Flags:
    """Whether vanilla's own number, of mean `own`, passes: half of its noise is the effect's."""
    vanilla = own + (effect - effect.mean((0, 2), keepdims=True)) / math.sqrt(2)
    vanilla = vanilla + effect.std() / math.sqrt(2) * rng.standard_normal(effect.shape)
    half = stats.t.isf(LEVEL / 2, world.seeds - 1) * standard_error(vanilla)
    mean = vanilla.mean(-1)
    return (mean >= needed) & (mean - half > 0)


def verdicts(world: World, true: float, runs: int, seed: int = 0) -> tuple[Flags, Flags]:
    """Which claims (runs, claims) are supported, and which are not supported."""
    rng = np.random.default_rng(seed)
    values = effects(world, true, runs, rng)
    mean, error, df = values.mean(-1), standard_error(values), values.shape[-1] - 1
    p, p_margin = p_values(mean, error, df), p_values(mean, error, df, MARGIN)
    low = mean - stats.t.isf(LEVEL / 2, df) * error
    found = decide(low, holm(p), holm(p_margin), mean, MARGIN, LEVEL)
    if world.gated:  # at the edge of what passes, where the check selects the most
        passed = sensitive(world, 2 * MARGIN, values, 2 * MARGIN, rng)
        return found[0] & passed, found[1] & passed
    return found


def rates(world: World, runs: int, seed: int = 0) -> tuple[float, float, float]:
    """Chances of any false "supported" in the family, of any false "not supported", and of power.

    False "supported": no claim is true. False "not supported": the effect of every claim is as
    large as the margin. Power: a single claim whose effect is four margins is supported.
    """
    false, _ = verdicts(world, 0.0, runs, seed)
    _, denied = verdicts(world, MARGIN, runs, seed + 1)
    found, _ = verdicts(world, 4 * MARGIN, runs, seed + 2)
    return float(false.any(-1).mean()), float(denied.any(-1).mean()), float(found.mean())


def worlds() -> Iterator[World]:
    """Every combination of numbers of tasks and seeds, sizes of family, spreads and tails."""
    for tasks, seeds, claims, spread in product((1, 3, 6), (3, 4, 6), (1, 3, 6), SPREADS):
        yield World(tasks, seeds, claims, spread)
        if claims == 3:
            yield World(tasks, seeds, claims, spread, "heavy")
    for seeds, claims, spread in product((3, 4, 6), (1, 3), SPREADS):
        yield World(3, seeds, claims, spread, pairs=True)
        yield World(3, seeds, claims, spread, gated=True)


def table(runs: int) -> pd.DataFrame:
    """Error rates in percent: the mean and the worst over worlds that are alike."""
    lines = []
    for i, world in enumerate(worlds()):
        kind = "pairs of seeds" if world.pairs else "checked first" if world.gated else world.tail
        where = {"values": kind, "seeds": world.seeds, "claims": world.claims}
        lines.append(where | dict(zip(_RATES, rates(world, runs, 10 * i), strict=True)))
    groups = pd.DataFrame(lines).groupby(["values", "seeds", "claims"], sort=False)[_RATES]
    mean, worst = 100 * groups.mean(), 100 * groups.max()
    shown = mean.map("{:.1f}".format)
    for name in _RATES[:2]:
        shown[name] += " (" + worst[name].map("{:.1f}".format) + ")"
    return shown.reset_index().astype(str)


_RATES = ["false supported", "false not supported", "supported at 4 margins"]


def skewed(runs: int) -> pd.DataFrame:
    """The same of noise with one long tail, in either direction, which t tests bear badly."""
    lines = []
    for i, (seeds, tasks) in enumerate(product((3, 6, 10), (1, 4))):
        world = World(tasks, seeds, 1, "seeds alone", "skewed")
        found = rates(world, runs, 10 * i)
        # The mirror image: the tail on the other side.
        values = -effects(world, 0.0, runs, np.random.default_rng(10 * i))
        error, mean = standard_error(values), values.mean(-1)
        false = (p_values(mean, error, seeds - 1) < LEVEL) & (mean > 0)
        rate = f"{100 * found[0]:.1f}, {100 * float(false.mean()):.1f}"
        lines.append({"seeds": str(seeds), "tasks": str(tasks), "false supported": rate})
    return pd.DataFrame(lines)


def components(grid: Array) -> tuple[float, float, float]:
    """Standard deviations between tasks, between seeds and of the rest, of values (tasks, seeds).

    The method of moments (Searle, Casella and McCulloch, Variance Components, 1992, Section 4.3);
    negative variances become 0. At least two tasks and seeds.
    """
    tasks, seeds = grid.shape
    rows, columns = grid.mean(1, keepdims=True), grid.mean(0, keepdims=True)
    rest = ((grid - rows - columns + grid.mean()) ** 2).sum() / ((tasks - 1) * (seeds - 1))
    task, seed = rows.var(ddof=1) - rest / seeds, columns.var(ddof=1) - rest / tasks
    return math.sqrt(max(0.0, task)), math.sqrt(max(0.0, seed)), math.sqrt(rest)


def measured(results: Path) -> pd.DataFrame:
    """Standard deviations in points of every main claim, suite and adapter kind of a run."""
    load_all()
    names = sorted({name for claim in CLAIMS.values() for name in claim.records})
    parts = {name: sorted(results.glob(f"*/{name}/**/[!a]*.json")) for name in names}
    for stage in ("train", "select", "gradients"):
        parts[stage] = sorted(results.glob(f"*/*/**/{stage}.json"))
    frames, lines = load_frames(parts), []
    for claim in [claim for claim in CLAIMS.values() if claim.role == "main"]:
        pairs = paired(claim.quantity(frames))
        pairs = pairs[(pairs["strategy"] == STRATEGY) & pairs["difference"].notna()]
        for (suite, adapter), part in pairs.groupby(["suite", "adapter"]):
            grid = 100 * part.pivot(index="task", columns="seed", values="difference")
            grid = grid.dropna(axis=1)
            if min(grid.shape) > 1:
                three = components(grid.to_numpy(dtype=np.float64))
                spread = dict(
                    zip(("tasks", "seeds", "rest"), map("{:.1f}".format, three), strict=True)
                )
                where = {"claim": claim.name, "suite": suite, "adapter": adapter}
                lines.append(where | {"values": "{} × {}".format(*grid.shape)} | spread)
    return pd.DataFrame(lines)


def main(runs: int = 4000) -> str:
    """Both tables."""
    return f"{markdown_table(table(runs))}\n\n{markdown_table(skewed(5 * runs))}\n"


if __name__ == "__main__":
    print(markdown_table(measured(Path(sys.argv[1]))) if len(sys.argv) > 1 else main())
