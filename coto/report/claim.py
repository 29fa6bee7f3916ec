"""Claims of the paper, the test of one over runs, and how many seeds would decide it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from coto.registry import Registry
from coto.report import statistics
from coto.report.comparison import paired
from coto.report.paper import Reported
from coto.report.quantities import STRATEGY
from coto.report.records import Frames
from coto.report.sensitivity import Sensitivity
from coto.report.settings import Settings
from coto.report.statistics import Estimate

# Families of claims in the order in which claims are listed; others follow.
FAMILIES = (
    *("generalisation", "variants", "efficiency", "merging"),
    *("pruning", "stability", "balance", "rivals"),
)
# Stands for all adapter kinds of a suite together.
POOLED = "all"
MOST_SEEDS = 999
# A forecast from fewer seeds than this would be a number without meaning: see `seeds_to_decide`.
LEAST_TO_FORECAST = 4


def over_runs(rows: pd.DataFrame, settings: Settings) -> Estimate | None:
    """The test over the seeds of one suite; None where no run is paired with another.

    Of several adapter kinds, every (task, adapter) counts as a task: it was trained on its own.
    """
    pairs = paired(rows)
    if pairs["adapter"].nunique() > 1:
        pairs = pairs.assign(task=pairs["task"] + "/" + pairs["adapter"])
    pairs = pairs[(pairs["strategy"] == STRATEGY) & pairs["difference"].notna()]
    return None if pairs.empty else statistics.estimate(pairs)


@dataclass(frozen=True)
class Claim:
    """A claim and its ``test``, in words: what is compared.

    The ``rows`` (a pandas query) of the CSV of ``table`` show it. ``quantity`` makes one value per
    (suite, task, adapter, strategy, seed) of the named ``records``, ``train`` and ``select``, and
    ``estimate`` tests those of one suite. CoTo should have the larger value where ``direction`` is
    1. ``margin``, the smallest effect of interest, is a multiple of the config's; ``fixed_margin``
    is in percent, for what is no accuracy. ``sensitivity`` says what a suite must show of vanilla
    for its verdict to mean anything. Suites of one ``kind`` can test it, or all; if ``apart``, on
    each adapter kind alone, too; if ``by_task``, on each task alone. Where ``optional`` says why it
    is not tested, a suite that cannot test it has no line, and neither has a run where no suite
    can, unless the claim is a main one or has a ``kind``. A sentence of the paper has one ``main``
    claim, its primary test; a ``secondary`` one is a further look at it, exploratory and no part of
    its family's correction. ``caution`` is on what a reader might overlook; ``listed_with`` is the
    family among whose claims it stands, if that is not its own.
    """

    name: str
    statement: str
    test: str
    table: str
    rows: str
    family: str
    quantity: Callable[[Frames], pd.DataFrame]
    records: tuple[str, ...] = ()
    estimate: Callable[[pd.DataFrame, Settings], Estimate | None] = over_runs
    sensitivity: Sensitivity | None = None
    reported: Mapping[str, tuple[Reported, ...]] = field(default_factory=dict)
    direction: Literal[1, -1] = 1
    margin: float = 1.0
    fixed_margin: float | None = None
    unit: str = "points"
    needs: str = "the stage that measures it"
    replicates: Literal["seeds", "items", "repeats"] = "seeds"
    role: Literal["main", "secondary"] = "main"
    caution: str = ""
    kind: str = ""
    apart: bool = True
    by_task: bool = False
    optional: str = ""
    listed_with: str = ""


CLAIMS: Registry[Claim] = Registry("claim")
"""Every claim that is tested; each is added in the room of its subject."""


def in_order(claims: Mapping[str, Claim]) -> list[Claim]:
    """Claims by family in the order of :data:`FAMILIES`, guests first, then as they were added."""
    names = [*FAMILIES, *(claim.family for claim in claims.values())]
    guests_first = sorted(claims.values(), key=lambda claim: not claim.listed_with)
    return sorted(guests_first, key=lambda claim: names.index(claim.listed_with or claim.family))


def by_operator(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of what one operator made."""
    return rows[rows["operator"] == name]


@dataclass(frozen=True)
class Seeds:
    """How many seeds would decide, from ``low`` to ``high``; None with the reason for neither.

    ``high`` is None where it is more than ``MOST_SEEDS``.
    """

    low: int | None = None
    high: int | None = None
    reason: str = ""


def seeds_to_decide(
    found: Estimate,
    *,
    margin: float,
    direction: Literal[1, -1] = 1,
    confidence: float = 0.95,
    tests: int = 1,
) -> Seeds:
    """How many seeds, of the same tasks, would decide an undecided claim in 80 of 100 runs.

    If today's mean were true. The standard deviation over seeds is known from few of them: the
    range is that of its 80 % interval (chi-square). A claim is decided as
    :func:`coto.report.statistics.judge` does, at the first step of Holm's procedure for ``tests``
    tests. Of fewer than ``LEAST_TO_FORECAST`` seeds the range would span a factor of ten and more:
    there is none.
    """
    n = found.n_units
    if n < LEAST_TO_FORECAST:
        return Seeds(reason=f"no forecast from fewer than {LEAST_TO_FORECAST} seeds")
    if found.error == 0:
        return Seeds(reason="no forecast without any spread")
    spread = found.error * math.sqrt(n)
    narrow, wide = np.sqrt((n - 1) / stats.chi2.isf([0.1, 0.9], n - 1)) * spread
    counts = np.arange(n + 1, MOST_SEEDS + 1)
    half = stats.t.isf((1 - confidence) / tests / 2, counts - 1) + stats.t.ppf(0.8, counts - 1)
    mean = direction * found.mean

    def least(spread: float) -> int | None:
        reach = half * spread / np.sqrt(counts)
        decided = (mean - reach > 0) | (mean + reach < margin)
        return int(counts[decided.argmax()]) if decided.any() else None

    low, high = least(float(narrow)), least(float(wide))
    return Seeds(low, high, "" if low else f"more than {MOST_SEEDS}")
