"""What a claim of the paper and its test are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from coto.report import quantities
from coto.report.reported import Reported

Frames = Mapping[str, pd.DataFrame]
# Stands for all adapter kinds of a suite together.
POOLED = "all"


@dataclass(frozen=True)
class Claim:
    """A claim and its test.

    Attributes:
        statement: what the paper says.
        test: what is compared here, in words.
        table: the table that shows it.
        quantity: rows of one value per (suite, task, adapter, strategy, seed).
        reported: the paper's numbers by adapter kind.
        direction: 1 where CoTo should have the larger value, -1 where the smaller.
        margin: smallest effect of interest, as a multiple of the config's ``report.margin``.
        fixed_margin: the same in percent, for what is no accuracy.
        needs: what a run must have for the test.
        kind: of the suites that can test it: text, language or image; empty: all.
        apart: whether the claim is tested for each adapter kind alone, too.
        optional: why it is not tested; then a suite that cannot test it has no line.
        replicates: what the seeds of the test are called.
        role: ``sensitivity`` for a second look at a claim that another entry tests.
        caution: what a reader must know about the independence of the pairs.
    """

    statement: str
    test: str
    table: str
    quantity: Callable[[Frames], pd.DataFrame]
    reported: Mapping[str, tuple[Reported, ...]] = field(default_factory=dict)
    direction: Literal[1, -1] = 1
    margin: float = 1.0
    fixed_margin: float | None = None
    unit: str = "points"
    needs: str = "the stage that measures it"
    replicates: str = "seeds"
    role: str = "main"
    caution: str = ""
    kind: str = ""
    apart: bool = True
    optional: str = ""


def single_scores(frames: Frames) -> pd.DataFrame:
    """Headline scores on the test part."""
    return quantities.headline(quantities.test_scores(frames["train"], frames["select"]))


def in_space(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of changes made in one space."""
    return rows[rows["space"] == name]
