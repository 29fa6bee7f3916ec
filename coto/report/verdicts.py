"""From claims and records to verdicts: CoTo against vanilla, per suite and adapter kind."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from coto.report.claim import CLAIMS, POOLED, Claim, Seeds, in_order, seeds_to_decide
from coto.report.paper import Reported
from coto.report.quantities import BASELINE, STRATEGY, ranked
from coto.report.records import Frames
from coto.report.sensitivity import Check, check
from coto.report.settings import LEAST_SEEDS, Settings
from coto.report.statistics import CANNOT, Estimate, Verdict, holm, judge, sign_flip

UNTESTED_VERDICT = "not tested here yet"


@dataclass(frozen=True)
class Trial:
    """A claim's test on one suite and adapter kind, or on all kinds together (``POOLED``).

    ``task``: the one that it is about; empty: all. ``whole``: on all runs of the suite that the
    claim is about. ``check``: of the suite's sensitivity, for a claim that needs it.
    """

    claim: Claim
    suite: str
    adapter: str
    task: str
    whole: bool
    estimate: Estimate | None
    check: Check | None
    reason: str

    @property
    def role(self) -> str:
        """That of the claim; single tasks are a further look at it."""
        return "secondary" if self.task else self.claim.role

    @property
    def insensitive(self) -> bool:
        """Whether the suite could not show what the claim says, whatever it does show.

        With too few seeds for any verdict, a number that is large enough says no such thing.
        """
        few = self.estimate is not None and self.estimate.n_units < LEAST_SEEDS
        return bool(self.check and not self.check.passed and not (few and self.check.undecided))


def _trials(
    claim: Claim, frames: Frames, settings: Settings, shown: pd.DataFrame | None
) -> Iterator[Trial]:
    """A claim on all adapter kinds of each suite together, then on each kind and task alone.

    ``shown`` are the rows of the sensitivity that it needs.
    """
    train, rows = frames["train"], claim.quantity(frames)
    for suite in ranked("suite", list(train["suite"])):
        if claim.kind not in ("", settings.kind(suite)):
            continue
        of_suite, arms = rows[rows["suite"] == suite], train[train["suite"] == suite]
        adapters = ranked("adapter", list(arms["adapter"]))
        together = [POOLED] if len(adapters) > 1 else adapters
        places = [(adapter, "") for adapter in together]
        if claim.apart and len(adapters) > 1:
            places += [(adapter, "") for adapter in adapters]
        if claim.by_task and of_suite["task"].nunique() > 1:
            places += [(together[0], task) for task in ranked("task", list(of_suite["task"]))]
        impossible = settings.impossible.get(claim.name, {}).get(suite, "")
        for adapter, task in places:
            needs, kinds = claim.needs, adapters if adapter == POOLED else [adapter]
            tested = of_suite[of_suite["adapter"].isin(kinds)]
            if task:
                tested = tested[tested["task"] == task]
            within = arms[arms["adapter"].isin(kinds)]
            if not {BASELINE, STRATEGY} <= set(within["strategy"]) and not claim.optional:
                tested, needs = tested.iloc[:0], f"the strategies {BASELINE} and {STRATEGY}"
            estimate = claim.estimate(tested, settings) if len(tested) else None
            whole = adapter in together and not task
            # What the configuration rules out is listed once; what an optional claim lacks, never.
            if estimate or (whole if impossible else not (claim.optional or task)):
                found = None
                if estimate and claim.sensitivity and shown is not None:
                    where = suite, tested["adapter"], tested["task"]
                    found = check(claim.sensitivity, shown, settings, *where)
                reason = impossible or f"needs {needs}"
                yield Trial(claim, suite, adapter, task, whole, estimate, found, reason)


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

    Attributes:
        task: the one that the result is about; empty for all tasks together.
        unit: of the effect, CoTo minus vanilla, its bounds and the margin.
        low, high: Student's interval over seeds; None of fewer than three.
        p, p_holm: two-sided, against 0, as it is and corrected for the ``tests`` of the family.
        p_margin, p_margin_holm: the same against the margin in the claimed direction.
        p_flip: of the permutation test over seeds, a check beside.
        n_pairs: single values, such as (task, seed) pairs; ``n_tasks`` may count (task, adapter)
            pairs, ``n_seeds`` repeats.
        sensitivity: what the suite shows of ``sensitivity_of``, in points, with its interval and
            what is ``sensitivity_needed``; all None where the claim needs none.
        seeds_low, seeds_high, seeds_reason: as in :class:`coto.report.claim.Seeds`.

    Corrected p are None, and ``tests`` 0, where exploratory. ``suite`` is empty for what no suite
    tests.
    """

    claim: str
    suite: str
    adapter: str
    task: str
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
    margin: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_margin: float | None = None
    p_margin_holm: float | None = None
    p_flip: float | None = None
    tests: int = 0
    replicates: str = "seeds"
    n_pairs: int = 0
    n_tasks: int = 0
    n_seeds: int = 0
    sensitivity: float | None = None
    sensitivity_low: float | None = None
    sensitivity_high: float | None = None
    sensitivity_needed: float | None = None
    sensitivity_of: str = ""
    seeds_low: int | None = None
    seeds_high: int | None = None
    seeds_reason: str = ""
    caution: str = ""


def evaluate(
    frames: Frames, settings: Settings, claims: Mapping[str, Claim] = CLAIMS
) -> list[Result]:
    """Test every claim for every suite and adapter that was trained; then list the untested.

    The verdict of a main claim, on all adapter kinds and tasks of a suite together, uses p
    corrected by Holm's procedure for all such tests of its family in the run. Secondary claims,
    single adapter kinds among several and single tasks are exploratory: their p are their own.

    Of ``frames``, ``items`` (:func:`coto.findings.items.load_items`) may be missing; the claims of
    all rooms need :func:`coto.findings.load_all` first.
    """
    trials: list[Trial] = []
    untested = [_untested(name, "", *why) for name, why in UNTESTED.items()]
    needed = {claim.sensitivity for claim in claims.values() if claim.sensitivity}
    shown = {one: one.quantity(frames) for one in needed}
    for claim in in_order(claims):
        rows = shown[claim.sensitivity] if claim.sensitivity else None
        of_claim = list(_trials(claim, frames, settings, rows))
        trials += of_claim
        # It needs what no suite of this run has.
        if not of_claim and claim.optional and (claim.role == "main" or claim.kind):
            values = next(iter(claim.reported.values()), ())
            texts = claim.statement, claim.optional, values
            untested.append(_untested(claim.name, claim.family, *texts))
    corrected = _corrected(trials, settings)
    tested = (_result(one, settings, *corrected.get(i, (None, 0))) for i, one in enumerate(trials))
    return [*tested, *untested]


def _untested(
    name: str, family: str, statement: str, reason: str, values: tuple[Reported, ...]
) -> Result:
    about = name, "", "", "", "main", family, statement, "", "", ""
    return Result(*about, tuple(v.text() for v in values), UNTESTED_VERDICT, reason)


def margin_of(claim: Claim, settings: Settings) -> float:
    """The smallest effect of interest of a claim, in the unit of its effect."""
    return claim.fixed_margin or claim.margin * settings.margin


def _both(trial: Trial, estimate: Estimate, settings: Settings) -> tuple[float, float]:
    """p against 0, and against the margin."""
    margin = trial.claim.direction * margin_of(trial.claim, settings) / 100
    return estimate.p(), estimate.p(margin)


def _corrected(
    trials: list[Trial], settings: Settings
) -> dict[int, tuple[tuple[float, float], int]]:
    """Both p adjusted, and the number of tests of the family, by the position of a main trial."""
    families: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for i, trial in enumerate(trials):
        # Suites that cannot test it stay in the family: how many its tests are must not depend on
        # the scores, or the check would choose what looks large.
        if trial.whole and trial.role == "main" and trial.estimate is not None:
            families[trial.claim.family][i] = _both(trial, trial.estimate, settings)
    return {
        i: ((float(p), float(p_margin)), len(of))
        for of in families.values()
        for i, p, p_margin in zip(of, *map(holm, zip(*of.values(), strict=True)), strict=True)
    }


def _result(
    trial: Trial, settings: Settings, corrected: tuple[float, float] | None, tests: int
) -> Result:
    claim, found, kind = trial.claim, trial.estimate, settings.kind(trial.suite)
    copied = ("family", "statement", "test", "table", "rows", "unit", "direction", "replicates")
    common: dict[str, Any] = {
        **{"claim": claim.name, "suite": trial.suite, "adapter": trial.adapter},
        **{"task": trial.task, "role": trial.role, "caution": claim.caution},
        **{name: getattr(claim, name) for name in copied},
        "paper": tuple(
            value.text()
            for value in claim.reported.get(trial.adapter if claim.apart else POOLED, ())
            if (not kind or value.kind in ("", kind)) and not trial.task
        ),
    }
    if found is None:
        return Result(**common, verdict=CANNOT, reason=trial.reason)
    margin = margin_of(claim, settings)
    asked: dict[str, Any] = {"margin": margin / 100, "direction": claim.direction}
    asked |= {"tests": max(1, tests), "confidence": settings.confidence}
    verdict = judge(found, unit=claim.replicates, corrected=corrected, **asked)
    if trial.check and trial.insensitive:
        verdict = Verdict(CANNOT, trial.check.reason)
    seeds = Seeds()
    if verdict.label == "inconclusive":
        seeds = seeds_to_decide(found, **asked)
        if claim.replicates == "items":
            seeds = Seeds(reason="more seeds are no more items")
    low, high = found.interval(settings.confidence)
    p, p_margin = _both(trial, found, settings)
    flipped = sign_flip(found.units, resamples=settings.resamples, seed=settings.seed)
    measured = {
        **{"effect": 100 * found.mean, "low": 100 * low, "high": 100 * high, "margin": margin},
        **{"p": p, "p_margin": p_margin, "p_flip": flipped, "tests": tests},
        **(dict(zip(("p_holm", "p_margin_holm"), corrected, strict=True)) if corrected else {}),
        **{"n_pairs": found.n_values, "n_tasks": found.n_tasks, "n_seeds": found.n_seeds},
        **{"seeds_low": seeds.low, "seeds_high": seeds.high, "seeds_reason": seeds.reason},
        **(_sensitivity(trial.check) if trial.check else {}),
    }
    # What so few values do not give is null.
    unknown = {k for k, v in measured.items() if isinstance(v, float) and not math.isfinite(v)}
    measured |= dict.fromkeys(unknown)
    return Result(**common, verdict=verdict.label, reason=verdict.reason, **measured)


def _sensitivity(found: Check) -> dict[str, Any]:
    return {
        **{"sensitivity": found.mean, "sensitivity_needed": found.needed},
        **{"sensitivity_low": found.low, "sensitivity_high": found.high},
        "sensitivity_of": found.what,
    }
