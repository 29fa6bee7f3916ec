"""From claims and records to verdicts: CoTo against vanilla, per suite and adapter kind."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from coto.report.claim import POOLED, Claim
from coto.report.claims import CLAIMS
from coto.report.comparison import effect, paired
from coto.report.quantities import BASELINE, ranked
from coto.report.reported import Reported
from coto.report.settings import Settings
from coto.report.statistics import PairedEffect, judge
from coto.report.untested import UNTESTED

Frames = Mapping[str, pd.DataFrame]
STRATEGY = "coto"
UNTESTED_VERDICT = "not tested here yet"
SHARED_RUNS = (
    "Evaluation sets that the same trained runs are scored on are not independent; p treats them "
    "as if they were."
)


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
    results: list[Result] = []
    trained = frames["train"][["suite", "adapter", "strategy"]].drop_duplicates()
    sources = frames["train"].groupby("suite")[["trained_on", "task"]].nunique()
    shared = set(sources[sources["trained_on"] < sources["task"]].index)
    absent: dict[str, tuple[str, str, tuple[Reported, ...]]] = {}
    for name, claim in CLAIMS.items():
        rows = claim.quantity(frames)
        found = []
        for suite in ranked("suite", list(trained["suite"])):
            if claim.kind in ("", settings.kind(suite)):
                arms = trained[trained["suite"] == suite]
                here = rows[rows["suite"] == suite]
                sets = here["task"].nunique() > 1 and suite in shared
                found += _in_suite(name, claim, suite, here, arms, settings, shared=sets)
        if claim.optional and all(result.effect is None for result in found):
            paper = next(iter(claim.reported.values()), ())
            if claim.role == "main" or not claim.apart:
                absent[name] = (claim.statement, claim.optional, paper)
            continue
        results += [r for r in found if not claim.optional or r.effect is not None]
    for name, (statement, reason, reported) in (UNTESTED | absent).items():
        texts = tuple(value.text() for value in reported)
        results.append(
            Result(name, "", "", "main", statement, "", "", texts, UNTESTED_VERDICT, reason)
        )
    return results


def _in_suite(
    name: str,
    claim: Claim,
    suite: str,
    rows: pd.DataFrame,
    arms: pd.DataFrame,
    settings: Settings,
    *,
    shared: bool,
) -> list[Result]:
    """A claim on all adapter kinds of a suite together, then on each alone.

    ``shared`` says that several evaluation sets are scored with the same trained runs.
    """
    adapters = ranked("adapter", list(arms["adapter"]))
    alone = adapters if claim.apart or len(adapters) == 1 else []
    results = []
    for adapter in [POOLED, *alone] if len(adapters) > 1 else alone:
        here, needs = rows[(rows["adapter"] == adapter) | (adapter == POOLED)], claim.needs
        within = arms[(arms["adapter"] == adapter) | (adapter == POOLED)]
        if not {BASELINE, STRATEGY} <= set(within["strategy"]) and not claim.optional:
            here, needs = here.iloc[:0], f"the strategies {BASELINE} and {STRATEGY}"
        found = effect(_units(paired(here)), STRATEGY, settings) if len(here) else None
        results.append(_result(name, claim, suite, adapter, found, needs, settings))
    if shared:
        return [
            replace(result, caution=f"{result.caution} {SHARED_RUNS}".strip()) for result in results
        ]
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
    kind = settings.kind(suite)
    paper = tuple(
        value.text()
        for value in claim.reported.get(adapter if claim.apart else POOLED, ())
        if not kind or value.kind in ("", kind)
    )
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
