"""What the config says about the report, and sentences on suites for notes."""

from collections.abc import Mapping, Sequence

from pydantic import Field

from coto.config.models import Facts, Statistics
from coto.settings import Model

# Fewer seeds have no interval and no verdict: a t interval of two is 13 standard errors wide on
# either side.
LEAST_SEEDS = 3

_KINDS = {
    "text": "text classification",
    "language": "causal language model",
    "image": "image classification",
}
_HEADS = {"frozen": "frozen at random", "prototypes": "of frozen class prototypes"}
_LOSS = {
    "answer": "the answer only",
    "all": "prompt and answer",
    "candidates": "the choice among the candidate answers",
}
_PROTOCOLS = {
    "ranking": "ranking of the candidate answers by log-likelihood",
    "generate": "generated text, from which the answer is read",
}


class Axes(Model):
    """What varies in a suite of a study."""

    suite: str = Field(description="Its name.")
    home: str = Field("", description="Suite that the records of its runs name; empty: itself.")
    share: float | None = Field(
        None, description="Share of the steps that runs are trained for, where the study varies it."
    )
    stages: tuple[str, ...] = Field((), description="Measurements that only some suites have.")
    grids: dict[str, tuple[str, ...]] = Field(
        description="Learning rates as text, by arm such as `lora-coto`."
    )


class Settings(Statistics):
    """The config's statistics, and what the suites are."""

    facts: Mapping[str, Facts] = Field(
        default_factory=dict, description="What a reader must know of each suite or study."
    )
    impossible: Mapping[str, Mapping[str, str]] = Field(
        default_factory=dict,
        description="By claim and suite: why the configuration of the suite cannot test the claim.",
    )

    def kind(self, suite: str) -> str:
        """What a suite's tasks are: text, language or image; empty where that is not known."""
        return self.facts[suite].kind if suite in self.facts else ""


def describe(suite: str, settings: Settings, what: str = "Suite") -> str:
    """One line for a table's note; empty where nothing is known of the suite (or study)."""
    if suite not in settings.facts:
        return ""
    facts = settings.facts[suite]
    head, loss, protocol = str(facts.head), str(facts.loss_on), str(facts.protocol)
    parts = {
        f"{_KINDS.get(facts.kind, 'tasks')} on {facts.backbone}": True,
        f"only adapters are trained, the head is {_HEADS.get(head, head)}": facts.head,
        f"{facts.shots} shots per class, drawn anew by each seed": facts.shots,
        f"at most {facts.test_rows} test rows per evaluation set": facts.test_rows,
        f"sub-networks on at most {facts.subnetwork_rows} of them": facts.subnetwork_rows,
        f"loss on {_LOSS.get(loss, loss)} in both arms": facts.loss_on,
        f"scored by {_PROTOCOLS.get(protocol, protocol)}": facts.protocol,
    }
    return f"{what} {suite}: {'; '.join(text for text, known in parts.items() if known)}."


def descriptions(suites: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """The lines of several suites; those of which nothing is known are left out."""
    return tuple(text for suite in suites if (text := describe(suite, settings)))
