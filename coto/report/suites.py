"""What a reader must know of each suite: on which backbone, what kind of tasks, how scored."""

from collections.abc import Mapping, Sequence
from typing import Any

from coto.report.settings import Settings

_KINDS = {
    "text": "text classification",
    "language": "causal language model",
    "image": "image classification",
}
_LOSS = {"answer": "the answer only", "all": "prompt and answer"}
_PROTOCOLS = {
    "ranking": "ranking of the candidate answers by log-likelihood",
    "generate": "generated text, from which the answer is read",
}


def facts_of(axes: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Facts by suite, from the axes that a report job is told."""
    return {suite["suite"]: suite.get("facts", {}) for suite in axes}


def describe(suite: str, settings: Settings, what: str = "Suite") -> str:
    """One line for a table's note; empty where nothing is known of the suite (or study)."""
    facts = settings.facts.get(suite, {})
    if not facts:
        return ""
    parts = [f"{_KINDS.get(facts.get('kind', ''), 'tasks')} on {facts['backbone']}"]
    if shots := facts.get("shots"):
        parts.append(f"{shots} shots per class, drawn anew by each seed")
    if rows := facts.get("test_rows"):
        parts.append(f"at most {rows} test rows per evaluation set")
    if rows := facts.get("subnetwork_rows"):
        parts.append(f"sub-networks on at most {rows} of them")
    if loss := facts.get("loss_on"):
        parts.append(f"loss on {_LOSS.get(loss, loss)} in both arms")
    if protocol := facts.get("protocol"):
        parts.append(f"scored by {_PROTOCOLS.get(protocol, protocol)}")
    return f"{what} {suite}: {'; '.join(parts)}."


def descriptions(suites: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """The lines of several suites, those of which nothing is known left out."""
    return tuple(text for suite in suites if (text := describe(suite, settings)))
