"""From claims and records to verdicts: CoTo against vanilla, per suite and adapter kind."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coto.report.claim import CLAIMS, POOLED, Claim, Estimate, Seeds, in_order, seeds_to_decide
from coto.report.paper import Reported
from coto.report.quantities import BASELINE, STRATEGY, ranked
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.statistics import holm, judge

UNTESTED_VERDICT = "not tested here yet"
SHARED_RUNS = (
    "Evaluation sets that the same trained runs are scored on are not independent; p treats them "
    "as if they were."
)


@dataclass(frozen=True)
class Trial:
    """A claim's test on one suite and adapter kind, or on all kinds together (``POOLED``).

    ``whole``: on all runs of the suite that the claim is about; ``shared``: several evaluation sets
    are scored with the same trained runs.
    """

    claim: Claim
    suite: str
    adapter: str
    whole: bool
    estimate: Estimate | None
    reason: str
    shared: bool


def _trials(claim: Claim, frames: Frames, settings: Settings) -> Iterator[Trial]:
    """A claim on all adapter kinds of each suite together, then on each kind alone."""
    train, rows = frames["train"], claim.quantity(frames)
    sources = train.groupby("suite")[["trained_on", "task"]].nunique()
    for suite in ranked("suite", list(train["suite"])):
        if claim.kind not in ("", settings.kind(suite)):
            continue
        of_suite, arms = rows[rows["suite"] == suite], train[train["suite"] == suite]
        shared = of_suite["task"].nunique() > 1
        shared &= bool(sources["trained_on"][suite] < sources["task"][suite])
        adapters = ranked("adapter", list(arms["adapter"]))
        together = [POOLED] if len(adapters) > 1 else adapters
        impossible = settings.impossible.get(claim.name, {}).get(suite, "")
        for adapter in [*together, *(adapters if claim.apart and len(adapters) > 1 else [])]:
            needs, everything = claim.needs, adapter == POOLED
            tested = of_suite[(of_suite["adapter"] == adapter) | everything]
            within = arms[(arms["adapter"] == adapter) | everything]
            if not {BASELINE, STRATEGY} <= set(within["strategy"]) and not claim.optional:
                tested, needs = tested.iloc[:0], f"the strategies {BASELINE} and {STRATEGY}"
            estimate = claim.estimate(tested, settings) if len(tested) else None
            whole = adapter in together
            # What the configuration rules out is listed once; what an optional claim lacks, never.
            if estimate or (whole if impossible else not claim.optional):
                reason = impossible or f"needs {needs}"
                yield Trial(claim, suite, adapter, whole, estimate, reason, shared)


_FID = "FID, lower is better", "custom_image_generation", "Average", "FID(lower better)"
# Statement, why there is no test, what the paper reports.
UNTESTED: dict[str, tuple[str, str, tuple[Reported, ...]]] = {
    "image-generation": (
        "The gains hold for subject- and style-driven image generation.",
        "no image generation yet",
        (Reported(*_FID, "LoRA-CoTo", "LoRA"),),
    ),
}


@dataclass(frozen=True)
class Result:
    """A claim's outcome for one suite and adapter, or all; the rest is as in :class:`Claim`.

    ``unit`` is that of the effect, CoTo minus vanilla, its bounds and the margin; ``size`` is d_z.
    ``p_holm`` is corrected for the ``tests`` of the family; None, and 0 tests, where exploratory.
    ``n_tasks`` may count (task, adapter) pairs, ``n_seeds`` repeats; ``seeds_needed`` would decide
    what is inconclusive. ``suite`` is empty for what is not tested.
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


def evaluate(
    frames: Frames, settings: Settings, claims: Mapping[str, Claim] = CLAIMS
) -> list[Result]:
    """Test every claim for every suite and adapter that was trained; then list the untested.

    The verdict of a main claim, on all adapter kinds of a suite together, uses p corrected by
    Holm's procedure for all such tests of its family in the run. Sensitivities and single adapter
    kinds among several are exploratory: their p is their own.

    Of ``frames``, ``items`` (:func:`coto.findings.items.load_items`) may be missing; the claims of
    all rooms need :func:`coto.findings.load_all` first.
    """
    trials: list[Trial] = []
    untested = [_untested(name, "", *why) for name, why in UNTESTED.items()]
    for claim in in_order(claims):
        of_claim = list(_trials(claim, frames, settings))
        trials += of_claim
        # It needs what no suite of this run has.
        if not of_claim and claim.optional and (claim.role == "main" or claim.kind):
            values = next(iter(claim.reported.values()), ())
            texts = claim.statement, claim.optional, values
            untested.append(_untested(claim.name, claim.family, *texts))
    corrected = _corrected(trials)
    tested = (_result(one, settings, *corrected.get(i, (None, 0))) for i, one in enumerate(trials))
    return [*tested, *untested]


def _untested(
    name: str, family: str, statement: str, reason: str, values: tuple[Reported, ...]
) -> Result:
    about = name, "", "", "main", family, statement, "", "", "", tuple(v.text() for v in values)
    return Result(*about, UNTESTED_VERDICT, reason)


def _corrected(trials: list[Trial]) -> dict[int, tuple[float, int]]:
    """Adjusted p and number of tests of its family, by the position of a main trial."""
    families: dict[str, dict[int, float]] = defaultdict(dict)
    for i, trial in enumerate(trials):
        if trial.whole and trial.claim.role == "main" and trial.estimate is not None:
            families[trial.claim.family][i] = trial.estimate.effect.p
    return {
        i: (adjusted, len(p))
        for p in families.values()
        for i, adjusted in zip(p, holm(list(p.values())), strict=True)
    }


def _result(trial: Trial, settings: Settings, p_holm: float | None, tests: int) -> Result:
    claim, estimate, kind = trial.claim, trial.estimate, settings.kind(trial.suite)
    copied = ("role", "family", "statement", "test", "table", "rows", "unit", "direction", "pairs")
    common: dict[str, Any] = {
        **{"claim": claim.name, "suite": trial.suite, "adapter": trial.adapter},
        **{name: getattr(claim, name) for name in copied},
        "paper": tuple(
            value.text()
            for value in claim.reported.get(trial.adapter if claim.apart else POOLED, ())
            if not kind or value.kind in ("", kind)
        ),
        "caution": f"{claim.caution} {SHARED_RUNS if trial.shared else ''}".strip(),
    }
    if estimate is None:
        return Result(**common, verdict="not tested", reason=trial.reason)
    effect, size, grid = estimate.effect, estimate.size, estimate.grid
    margin = claim.fixed_margin or claim.margin * settings.margin
    asked: dict[str, Any] = {"margin": margin / 100, "direction": claim.direction}
    asked["tests"] = max(1, tests)
    verdict = judge(effect, unit=claim.replicates, adjusted_p=p_holm, **asked)
    seeds = Seeds(None, "more seeds are no more items")
    if verdict.label != "inconclusive":
        seeds = Seeds(None)
    elif grid is not None:
        level, in_pairs = settings.confidence, estimate.in_pairs
        seeds = seeds_to_decide(grid, confidence=level, in_pairs=in_pairs, **asked)
    measured: dict[str, Any] = {
        **{"effect": 100 * effect.mean, "low": 100 * effect.low, "high": 100 * effect.high},
        **{name: getattr(effect, name) for name in ("p", "n_pairs", "n_tasks", "n_seeds")},
        **({"size": size.mean, "size_low": size.low, "size_high": size.high} if size else {}),
        **{"p_holm": p_holm, "tests": tests, "margin": margin},
        **{"seeds_needed": seeds.count, "seeds_reason": seeds.reason},
    }
    return Result(**common, verdict=verdict.label, reason=verdict.reason, **measured)
