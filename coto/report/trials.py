"""Testing every claim on every suite and adapter kind: what was found, before any verdict."""

from dataclasses import dataclass

import pandas as pd

from coto.report.claim import POOLED, Claim, Frames
from coto.report.claims import CLAIMS
from coto.report.estimate import STRATEGY, Estimate
from coto.report.quantities import BASELINE, ranked
from coto.report.settings import Settings


@dataclass(frozen=True)
class Trial:
    """A claim's test on one suite and adapter kind, or on all kinds together.

    Attributes:
        name: of the claim.
        claim: what is tested.
        suite: whose runs.
        adapter: kind, or ``POOLED``.
        whole: whether these are all runs of the suite that the claim is about.
        found: None where there was nothing to test.
        needs: what the test needs.
        shared: whether several evaluation sets are scored with the same trained runs.
    """

    name: str
    claim: Claim
    suite: str
    adapter: str
    whole: bool
    found: Estimate | None
    needs: str
    shared: bool

    @property
    def corrected(self) -> bool:
        """Whether it counts as one of the tests of its family."""
        return self.whole and self.claim.role == "main" and self.found is not None


def run_trials(frames: Frames, settings: Settings) -> tuple[list[Trial], dict[str, Claim]]:
    """Test every claim for every suite and adapter that was trained.

    Where a suite has several adapters, a claim is first tested on all of them together.

    Returns:
        The trials, and the claims by name that need what no suite of this run has.
    """
    trained = frames["train"][["suite", "adapter", "strategy"]].drop_duplicates()
    sources = frames["train"].groupby("suite")[["trained_on", "task"]].nunique()
    shared = set(sources[sources["trained_on"] < sources["task"]].index)
    trials: list[Trial] = []
    absent: dict[str, Claim] = {}
    for name, claim in CLAIMS.items():
        rows = claim.quantity(frames)
        here = []
        for suite in ranked("suite", list(trained["suite"])):
            if claim.kind in ("", settings.kind(suite)):
                arms = trained[trained["suite"] == suite]
                of_suite = rows[rows["suite"] == suite]
                sets = of_suite["task"].nunique() > 1 and suite in shared
                here += _in_suite(name, claim, suite, of_suite, arms, settings, shared=sets)
        if claim.optional:
            here = [trial for trial in here if trial.found is not None]
            if not here and (claim.role == "main" or claim.kind):
                absent[name] = claim
        trials += here
    return trials, absent


def _in_suite(
    name: str,
    claim: Claim,
    suite: str,
    rows: pd.DataFrame,
    arms: pd.DataFrame,
    settings: Settings,
    *,
    shared: bool,
) -> list[Trial]:
    """A claim on all adapter kinds of a suite together, then on each alone."""
    adapters = ranked("adapter", list(arms["adapter"]))
    together = [POOLED] if len(adapters) > 1 else adapters
    trials = []
    for adapter in [*together, *(adapters if claim.apart and len(adapters) > 1 else [])]:
        here, needs = rows[(rows["adapter"] == adapter) | (adapter == POOLED)], claim.needs
        within = arms[(arms["adapter"] == adapter) | (adapter == POOLED)]
        if not {BASELINE, STRATEGY} <= set(within["strategy"]) and not claim.optional:
            here, needs = here.iloc[:0], f"the strategies {BASELINE} and {STRATEGY}"
        found = claim.estimate(here, settings) if len(here) else None
        whole = adapter in together
        trials.append(Trial(name, claim, suite, adapter, whole, found, needs, shared))
    return trials
