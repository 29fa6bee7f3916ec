"""From claims and records to verdicts: CoTo against vanilla, per suite and adapter kind."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from coto.report.claim import POOLED, Frames
from coto.report.power import Seeds, seeds_to_decide
from coto.report.reported import Reported
from coto.report.settings import Settings
from coto.report.statistics import holm, judge
from coto.report.trials import Trial, run_trials
from coto.report.untested import UNTESTED

UNTESTED_VERDICT = "not tested here yet"
INCONCLUSIVE = "inconclusive"
SHARED_RUNS = (
    "Evaluation sets that the same trained runs are scored on are not independent; p treats them "
    "as if they were."
)


@dataclass(frozen=True)
class Result:
    """A claim's outcome for one suite and adapter, or all.

    Attributes:
        claim: its name.
        suite: whose runs; empty for what is not tested.
        adapter: kind, or ``all``.
        role: ``main`` or ``sensitivity``.
        family: of tests that are corrected together.
        statement: what the paper says.
        test: what is compared.
        table: which rests on the same numbers.
        rows: of the table's CSV, as a pandas query; empty for all.
        paper: its numbers, in words.
        verdict: supported, not supported, inconclusive, or why there is none.
        reason: of the verdict.
        unit: of effect, bounds and margin: percentage points, or percent.
        direction: the sign that the effect has if the claim is true.
        effect: CoTo minus vanilla.
        low: lower bound of its interval.
        high: upper bound.
        p: of this test alone.
        p_holm: corrected for the tests of the family; None for what is exploratory.
        tests: how many the family has; 0 for what is exploratory.
        size: standardised effect d_z.
        size_low: lower bound of its interval.
        size_high: upper bound.
        pairs: what is paired: ``pairs`` of runs, or ``items``.
        n_pairs: how many.
        n_tasks: tasks, or (task, adapter) pairs.
        n_seeds: seeds, or repeats.
        margin: smallest effect of interest.
        seeds_needed: how many seeds would decide what is inconclusive.
        seeds_reason: why that is not known.
        caution: what a reader must know of the pairs.
    """

    claim: str
    suite: str
    adapter: str
    role: str
    family: str
    statement: str
    test: str
    table: str
    rows: str
    paper: tuple[str, ...]
    verdict: str
    reason: str
    unit: str = "points"
    direction: int = 1
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    tests: int = 0
    size: float | None = None
    size_low: float | None = None
    size_high: float | None = None
    pairs: str = "pairs"
    n_pairs: int = 0
    n_tasks: int = 0
    n_seeds: int = 0
    margin: float | None = None
    seeds_needed: int | None = None
    seeds_reason: str = ""
    caution: str = ""


def evaluate(frames: Frames, settings: Settings) -> list[Result]:
    """Test every claim for every suite and adapter that was trained; then list the untested.

    The verdict of a main claim, on all adapter kinds of a suite together, uses p corrected by
    Holm's procedure for all such tests of its family in the run. Sensitivities and single adapter
    kinds among several are exploratory: their p is their own.

    Args:
        frames: rows by stage; ``items`` (:func:`coto.report.items.load_items`) may be missing.
        settings: margin, interval level and resampling.
    """
    trials, absent = run_trials(frames, settings)
    corrected = _corrected(trials)
    results = [
        _result(trial, settings, *corrected.get(i, (None, 0))) for i, trial in enumerate(trials)
    ]
    for name, (statement, reason, values) in UNTESTED.items():
        results.append(_untested(name, "", statement, reason, values))
    for name, claim in absent.items():
        values = next(iter(claim.reported.values()), ())
        results.append(_untested(name, claim.family, claim.statement, claim.optional, values))
    return results


def _corrected(trials: list[Trial]) -> dict[int, tuple[float, int]]:
    """Adjusted p and number of tests of its family, by the position of a main trial."""
    families = defaultdict(list)
    for i, trial in enumerate(trials):
        if trial.corrected and trial.found is not None:
            families[trial.claim.family].append((i, trial.found.effect.p))
    return {
        i: (adjusted, len(members))
        for members in families.values()
        for (i, _), adjusted in zip(members, holm([p for _, p in members]), strict=True)
    }


def _untested(
    name: str, family: str, statement: str, reason: str, values: tuple[Reported, ...]
) -> Result:
    paper = tuple(value.text() for value in values)
    verdict = UNTESTED_VERDICT
    return Result(name, "", "", "main", family, statement, "", "", "", paper, verdict, reason)


def _result(trial: Trial, settings: Settings, p_holm: float | None, tests: int) -> Result:
    claim, found, kind = trial.claim, trial.found, settings.kind(trial.suite)
    common: dict[str, Any] = {
        **{"claim": trial.name, "suite": trial.suite, "adapter": trial.adapter},
        **{name: getattr(claim, name) for name in ("role", "family", "statement", "test")},
        **{name: getattr(claim, name) for name in ("table", "rows", "unit", "direction", "pairs")},
        "paper": tuple(
            value.text()
            for value in claim.reported.get(trial.adapter if claim.apart else POOLED, ())
            if not kind or value.kind in ("", kind)
        ),
        "caution": f"{claim.caution} {SHARED_RUNS if trial.shared else ''}".strip(),
    }
    if found is None:
        return Result(**common, verdict="not tested", reason=f"needs {trial.needs}")
    effect, size = found.effect, found.size
    margin = claim.fixed_margin or claim.margin * settings.margin
    verdict = judge(
        effect,
        margin=margin / 100,
        direction=claim.direction,
        unit=claim.replicates,
        tests=max(1, tests),
        adjusted_p=p_holm,
    )
    seeds = _seeds(trial, margin, settings, tests) if verdict.label == INCONCLUSIVE else Seeds(None)
    return Result(
        **common,
        verdict=verdict.label,
        reason=verdict.reason,
        effect=100 * effect.mean,
        low=100 * effect.low,
        high=100 * effect.high,
        p=effect.p,
        p_holm=p_holm,
        tests=tests,
        size=None if size is None else size.mean,
        size_low=None if size is None else size.low,
        size_high=None if size is None else size.high,
        n_pairs=effect.n_pairs,
        n_tasks=effect.n_tasks,
        n_seeds=effect.n_seeds,
        margin=margin,
        seeds_needed=seeds.count,
        seeds_reason=seeds.reason,
    )


def _seeds(trial: Trial, margin: float, settings: Settings, tests: int) -> Seeds:
    assert trial.found is not None
    grid = trial.found.grid
    if grid is None:
        return Seeds(None, "more seeds are no more items")
    return seeds_to_decide(
        grid.differences,
        margin=margin / 100,
        direction=trial.claim.direction,
        confidence=settings.confidence,
        tests=max(1, tests),
        in_pairs=grid.in_pairs,
    )
