"""What a claim of the paper and its test are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from coto.report import quantities
from coto.report.estimate import Estimate, over_runs
from coto.report.reported import Reported
from coto.report.settings import Settings

Frames = Mapping[str, pd.DataFrame]
Family = Literal[
    "generalisation",
    "merging",
    "pruning",
    "efficiency",
    "stability",
    "balance",
    "variants",
    "rivals",
]
# Stands for all adapter kinds of a suite together.
POOLED = "all"


@dataclass(frozen=True)
class Claim:
    """A claim and its test.

    Attributes:
        statement: what the paper says.
        test: what is compared here, in words.
        table: the table that shows it.
        rows: which rows of the table's CSV the test rests on, as a pandas query.
        family: of the tests that are corrected together for their number.
        quantity: rows of one value per (suite, task, adapter, strategy, seed), or what ``estimate``
            takes instead.
        estimate: the test of the quantity of one suite; None where it has no pairs.
        reported: the paper's numbers by adapter kind.
        direction: 1 where CoTo should have the larger value, -1 where the smaller.
        margin: smallest effect of interest, as a multiple of the config's ``report.margin``.
        fixed_margin: the same in percent, for what is no accuracy.
        needs: what a run must have for the test.
        kind: of the suites that can test it: text, language or image; empty: all.
        apart: whether the claim is tested for each adapter kind alone, too.
        optional: why it is not tested; then a suite that cannot test it has no line, and neither
            has a run where no suite can, unless the claim is a main one or has a ``kind``.
        pairs: what is paired: ``pairs`` of runs, or ``items``.
        replicates: what the seeds of the test are called.
        role: ``sensitivity`` for a second look at a claim that another entry tests; it is
            exploratory and no part of its family's correction.
        caution: what a reader must know about the independence of the pairs.
    """

    statement: str
    test: str
    table: str
    rows: str
    family: Family
    quantity: Callable[[Frames], pd.DataFrame]
    estimate: Callable[[pd.DataFrame, Settings], Estimate | None] = over_runs
    reported: Mapping[str, tuple[Reported, ...]] = field(default_factory=dict)
    direction: Literal[1, -1] = 1
    margin: float = 1.0
    fixed_margin: float | None = None
    unit: str = "points"
    needs: str = "the stage that measures it"
    pairs: Literal["pairs", "items"] = "pairs"
    replicates: str = "seeds"
    role: Literal["main", "sensitivity"] = "main"
    caution: str = ""
    kind: str = ""
    apart: bool = True
    optional: str = ""


def single_scores(frames: Frames) -> pd.DataFrame:
    """Headline scores on the test part."""
    return quantities.headline(quantities.test_scores(frames["train"], frames["select"]))


def by_operator(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of what one operator made."""
    return rows[rows["operator"] == name]
