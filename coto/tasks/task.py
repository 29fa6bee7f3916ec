"""What every task has in common; light, as the workflow checks names before any job runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from coto.registry import Registry
from coto.settings import Model, Positive

Kind = Literal["text", "language", "image"]
SPLITS = ("train", "validation", "test")


class Rows(Model):
    """Rows used per part; the ones with the lowest content hash. Null: all."""

    train: Positive | None = Field(None, description="Rows to train on.")
    validation: Positive | None = Field(None, description="Rows to choose learning rates on.")
    test: Positive | None = Field(
        None, description="Rows that are reported, of each evaluation set."
    )
    shots: Positive | None = Field(
        None, description="Training rows per class, drawn with the run's seed (few-shot)."
    )


@dataclass(frozen=True)
class Sources:
    """Where the function that builds a task's rows may read, and how many rows are wanted."""

    corpora: Path | None = None  # the vaderSentiment archive, for every task whose source it is
    mirror: Path | None = None  # laid out as the hub (``<mirror>/nyu-mll/glue``); None: the hub
    # Most rows per split, None for all; of language tasks' ``test``, per evaluation set.
    limits: Mapping[str, int | None] = field(default_factory=lambda: dict.fromkeys(SPLITS))
    cache: Path | None = None  # of downloads and ``datasets``' tables; None for the default
    # Wanted is one part alone, ``prototypes``: pictures that classes' prototypes are made of. Only
    # image tasks that are ``made`` are asked for it; those of others are drawn from train.
    prototypes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one run trains on, and how its scores are called."""

    kind: ClassVar[Kind]

    name: str  # key in TASKS, and the folder name under ``results/<suite>/``
    family: str  # what kind of question it asks; groups tasks in tables
    summary: str
    # The vaderSentiment sdist, the hub (or a mirror of it), or what the installed packages carry.
    source: Literal["vader", "hub", "made"]
    # ``module:function`` that builds the rows: called with the task and Sources, it returns a data
    # frame per split. A limit takes the first rows in an order that follows from their content.
    code: str
    metrics: tuple[str, ...] = ("accuracy",)
    headline: str = "accuracy"  # the one of the metrics that tables quote
    hub_path: str = ""  # hub tasks only: repository id, and the folder under a mirror
    hub_config: str = ""
    files: tuple[str, ...] = ()  # tasks of plain files only: their paths below a mirror
    sets: tuple[str, ...] = ()  # evaluation sets, where they are not the task itself

    def scored(self) -> dict[str, Any]:
        """What training and scoring read of this entry, as settings of their jobs."""
        return {"metrics": list(self.metrics), "headline": self.headline}


TASKS: Registry[Task] = Registry("task")
"""Every task by name, once :mod:`coto.tasks.registry` is imported."""
