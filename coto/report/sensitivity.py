"""What a suite must show of vanilla before its verdict on a claim means anything.

Where removing every adapter changes nothing, no way of training them can make pruning or merging
better, and "no effect" says nothing of the method. A claim names its :class:`Sensitivity`; a suite
that falls short of it "cannot be tested here", with the number that says so.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from coto.report import statistics
from coto.report.quantities import BASELINE, RUN, worth_of_adapters
from coto.report.records import Frames
from coto.report.settings import Settings


@dataclass(frozen=True)
class Sensitivity:
    """What of vanilla must be large enough.

    Attributes:
        what: is measured, in words.
        quantity: of the records: rows with ``suite, task, adapter, strategy, seed, value``.
        needed: from the settings: how large it must be at least, in accuracy points.
        missing: why there is no such number where there is none, and what would give it.
    """

    what: str
    quantity: Callable[[Frames], pd.DataFrame]
    needed: Callable[[Settings], float]
    missing: str


@dataclass(frozen=True)
class Check:
    """A suite's number for a :class:`Sensitivity`, in points; NaN where it is not known."""

    what: str
    needed: float
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is large enough, with its interval above 0."""
        return self.mean >= self.needed and self.low > 0

    @property
    def undecided(self) -> bool:
        """Whether it is large enough, but of too few seeds for an interval."""
        return self.mean >= self.needed and math.isnan(self.low)


def check(
    sensitivity: Sensitivity,
    rows: pd.DataFrame,
    settings: Settings,
    suite: str,
    adapters: Iterable[str],
    tasks: Iterable[str],
) -> Check:
    """Test the ``rows`` of its quantity, vanilla's of these tasks and kinds, seeds the unit.

    Every (task, adapter) counts alike, as in the test of a claim. A task without a number is left
    out.
    """
    what, needed = sensitivity.what, sensitivity.needed(settings)
    mine = (rows["suite"] == suite) & (rows["strategy"] == BASELINE)
    rows = rows[mine & rows["adapter"].isin(set(adapters)) & rows["task"].isin(set(tasks))]
    if rows.empty:
        return Check(what, needed, reason=sensitivity.missing)
    found = statistics.estimate(rows.assign(task=rows["task"] + "/" + rows["adapter"]), "value")
    low, high = found.interval(settings.confidence)
    mean, low, high = 100 * found.mean, 100 * low, 100 * high
    number = f"{what}: {mean:+z.1f}"
    if math.isnan(low):
        number += f" points of {found.n_seeds} seed{'s' * (found.n_seeds > 1)}, no interval"
    else:
        number += f" [{low:+z.1f}, {high:+z.1f}] points"
    expected = f"expected at least {needed:g}, with the interval above 0"
    return Check(what, needed, mean, low, high, f"{number}; {expected}")


def worth(frames: Frames) -> pd.DataFrame:
    """What all adapters of a run are worth: its score with all minus that with none; heads kept.

    From the run's own records, on all test rows; else from the sub-networks, on theirs.
    """
    runs, rows = worth_of_adapters(frames), frames["subnetworks"]
    found = runs.assign(value=runs["all"] - runs["none"])
    totals = (rows["analysis"] == "shapley") & (rows["player"] == "total")
    further = rows[totals & (rows["measure"] == "score")]
    both = [part[[*RUN, "value"]] for part in (found, further) if len(part)]
    if not both:
        return pd.DataFrame(columns=[*RUN, "value"])
    return pd.concat(both).drop_duplicates(RUN, ignore_index=True)


WORTH = Sensitivity(
    "vanilla with all adapters minus with none",
    worth,
    lambda settings: settings.sensitivity * settings.margin,
    "no record scores vanilla with every adapter removed: none.json beside train.json, or "
    "subnetworks",
)
"""That the adapters matter: for claims on pruning, merging, stability and balance."""
