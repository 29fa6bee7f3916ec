"""From rows of a quantity to what they say of CoTo against vanilla: effect, interval, p, size."""

from dataclasses import dataclass

import pandas as pd

from coto.report.comparison import effect, paired
from coto.report.effect_size import effect_size
from coto.report.resampling import Array
from coto.report.settings import Settings
from coto.report.statistics import Interval, PairedEffect, differences_of

STRATEGY = "coto"


@dataclass(frozen=True)
class Grid:
    """Differences (tasks, seeds) of a test over runs; ``in_pairs``: its columns pair two seeds."""

    differences: Array
    in_pairs: bool


@dataclass(frozen=True)
class Estimate:
    """What a test found. Effect and interval are in the quantity's unit, ``size`` is d_z.

    A test over items has neither size nor grid.
    """

    effect: PairedEffect
    size: Interval | None = None
    grid: Grid | None = None


def over_runs(rows: pd.DataFrame, settings: Settings) -> Estimate | None:
    """The test over tasks and seeds; None where no run is paired with another.

    Of several adapter kinds, every (task, adapter) is a unit of its own, as it was trained on its
    own.

    Args:
        rows: one value per task, adapter, strategy and seed of one suite.
        settings: interval level and resampling.
    """
    pairs = _units(paired(rows))
    pairs = pairs[(pairs["strategy"] == STRATEGY) & pairs["difference"].notna()]
    found = effect(pairs, STRATEGY, settings)
    if found is None:
        return None
    size = effect_size(
        pairs, confidence=settings.confidence, resamples=settings.resamples, seed=settings.seed
    )
    in_pairs = bool(pairs["seed"].map(lambda label: isinstance(label, tuple)).any())
    return Estimate(found, size, Grid(differences_of(pairs), in_pairs))


def _units(pairs: pd.DataFrame) -> pd.DataFrame:
    if pairs["adapter"].nunique() < 2:
        return pairs
    return pairs.assign(task=pairs["task"] + "/" + pairs["adapter"])
