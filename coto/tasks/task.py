"""What every task has in common; light, as the workflow checks names before any job runs."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Kind = Literal["text", "language", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one run trains on, and how its scores are called.

    Attributes:
        name: Key in :data:`coto.tasks.registry.TASKS`, and the folder name under
            ``results/<suite>/``.
        family: What kind of question it asks; groups tasks in tables.
        summary: One line for people.
        source: ``vader`` (corpora in the vaderSentiment sdist), ``hub`` (hub or a mirror of it) or
            ``made`` (computed from what the installed packages carry).
        metrics: Every metric to report, the headline among them.
        headline: The metric quoted in tables.
        hub_path: Hub tasks only: repository id, and the folder under a mirror.
        hub_config: Hub tasks only: configuration name.
        sets: Evaluation sets that a run is scored on, where they are not the task itself.
        files: Tasks of plain files only: their paths below a mirror.
    """

    kind: ClassVar[Kind]

    name: str
    family: str
    summary: str
    source: Literal["vader", "hub", "made"]
    metrics: tuple[str, ...] = ("accuracy",)
    headline: str = "accuracy"
    hub_path: str = ""
    hub_config: str = ""
    files: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module that makes the rows, for code fingerprints: it is imported by name."""
        raise NotImplementedError

    def scored(self) -> dict[str, Any]:
        """What training and scoring read of this entry, whose module no fingerprint covers."""
        return {"metrics": list(self.metrics), "headline": self.headline}
