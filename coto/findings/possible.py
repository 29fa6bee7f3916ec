"""Claims that a configuration cannot test, for a line before the run and beside the claim."""

from collections.abc import Iterator

from coto.config.models import ARMS
from coto.config.plan import Plan
from coto.measurements.interpolate import Interpolate
from coto.measurements.merge import Merge
from coto.report.settings import LEAST_SEEDS

HALF_WAY = {"lmc-midpoint": "fusion", "lmc-midpoint-ensemble": "ensemble"}
"""Claims about the middle of a path, with the operator whose path it is."""
TASKS_MERGED = {"merging-fusion": "fusion", "merging-ensemble": "ensemble"}
EVERY = "all claims"


def impossible(plan: Plan) -> dict[str, dict[str, str]]:
    """Reasons by claim and suite, each one line that names the key, its value, what is missing.

    A measurement that a suite leaves out on purpose (``interpolate: null``) is no reason.
    """
    reasons: dict[str, dict[str, str]] = {}
    for suite in plan.config.suites:
        for claim, reason in _reasons(plan, suite):
            reasons.setdefault(claim, {})[suite] = f"suites.{suite}.{reason}"
    return reasons


def messages(plan: Plan) -> list[str]:
    """One line for each claim and suite, for the start of a run."""
    return [
        f"{claim} cannot be tested: {reason}"
        for claim, suites in impossible(plan).items()
        for reason in suites.values()
    ]


def _reasons(plan: Plan, name: str) -> Iterator[tuple[str, str]]:
    suite = plan.config.suites[name]
    if not set(ARMS) <= set(suite.strategies):
        given = list(suite.strategies)
        yield EVERY, f"strategies = {given}: expected vanilla and coto among them"
        return
    if len(suite.seeds) < LEAST_SEEDS:
        yield (
            EVERY,
            f"seeds = {list(suite.seeds)}: expected {LEAST_SEEDS} or more, no verdict is drawn "
            "from fewer",
        )
    path, merge = suite.section(Interpolate), suite.section(Merge)
    if path is not None and len(suite.seeds) > 1:
        for claim, operator in HALF_WAY.items():
            if operator in path.operators and 0.5 not in path.weights:
                yield claim, f"interpolate.weights = {list(path.weights)}: expected 0.5 among them"
    if merge is not None and len(suite.tasks) < 2:
        for claim, operator in TASKS_MERGED.items():
            if operator in merge.operators:
                given = list(suite.tasks)
                yield claim, f"tasks = {given}: expected two or more tasks to merge, or merge: null"
