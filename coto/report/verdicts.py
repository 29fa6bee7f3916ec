"""From claims and records to verdicts: CoTo against vanilla, per suite and adapter kind."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from coto.report.claims import CLAIMS, UNTESTED, Claim
from coto.report.comparison import effect, paired
from coto.report.quantities import BASELINE, ranked
from coto.report.settings import Settings
from coto.report.statistics import PairedEffect, judge

Frames = Mapping[str, pd.DataFrame]
STRATEGY = "coto"
UNTESTED_VERDICT = "not tested here yet"
POOLED = "all"


@dataclass(frozen=True)
class Result:
    """A claim's outcome for one suite and adapter, or all; effects are in percent points."""

    claim: str
    suite: str
    adapter: str
    role: str
    statement: str
    test: str
    table: str
    paper: tuple[str, ...]
    verdict: str
    reason: str
    unit: str = "points"
    direction: int = 1
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n_pairs: int = 0
    n_tasks: int = 0
    n_seeds: int = 0
    margin: float | None = None
    caution: str = ""


def evaluate(frames: Frames, settings: Settings) -> list[Result]:
    """Test every claim for every suite and adapter that was trained; then list the untested.

    Where a suite has several adapters, a claim is first tested on all of them together: every
    (task, adapter) is then a unit of its own, as it was trained on its own.
    """
    results = []
    trained = frames["train"][["suite", "adapter", "strategy"]].drop_duplicates()
    for name, claim in CLAIMS.items():
        rows = claim.quantity(frames)
        for suite in ranked("suite", list(trained["suite"])):
            arms = trained[trained["suite"] == suite]
            adapters = ranked("adapter", list(arms["adapter"]))
            for adapter in [POOLED, *adapters] if len(adapters) > 1 else adapters:
                within = (rows["suite"] == suite) & (
                    (rows["adapter"] == adapter) | (adapter == POOLED)
                )
                here, needs = rows[within], claim.needs
                strategies = set(
                    arms.loc[(arms["adapter"] == adapter) | (adapter == POOLED), "strategy"]
                )
                if not {BASELINE, STRATEGY} <= strategies:
                    here, needs = here.iloc[:0], f"the strategies {BASELINE} and {STRATEGY}"
                found = effect(_units(paired(here)), STRATEGY, settings) if len(here) else None
                results.append(_result(name, claim, suite, adapter, found, needs, settings))
    for name, (statement, reason, reported) in UNTESTED.items():
        texts = tuple(value.text() for value in reported)
        results.append(
            Result(name, "", "", "main", statement, "", "", texts, UNTESTED_VERDICT, reason)
        )
    return results


def _units(pairs: pd.DataFrame) -> pd.DataFrame:
    """Name what the test treats as a task: with several adapters, every (task, adapter)."""
    if pairs["adapter"].nunique() < 2:
        return pairs
    return pairs.assign(task=pairs["task"] + "/" + pairs["adapter"])


def _result(
    name: str,
    claim: Claim,
    suite: str,
    adapter: str,
    found: PairedEffect | None,
    needs: str,
    settings: Settings,
) -> Result:
    paper = tuple(value.text() for value in claim.reported.get(adapter, ()))
    margin = claim.fixed_margin or claim.margin * settings.margin
    common = (name, suite, adapter, claim.role, claim.statement, claim.test, claim.table, paper)
    if found is None:
        return Result(*common, "not tested", f"needs {needs}", claim.unit, claim.direction)
    verdict = judge(found, margin=margin / 100, direction=claim.direction, unit=claim.replicates)
    return Result(
        *common,
        verdict.label,
        verdict.reason,
        claim.unit,
        claim.direction,
        100 * found.mean,
        100 * found.low,
        100 * found.high,
        found.p,
        found.n_pairs,
        found.n_tasks,
        found.n_seeds,
        margin,
        claim.caution,
    )
