"""What a stage needs of a kind of model; each kind is one class.

Stages train, change and score adapters without knowing whether the model reads text, continues it
or looks at images. A new kind of model is one file with a :class:`Workbench`, and one entry in
:mod:`coto.config.families`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from coto.tasks.task import Task


@dataclass(frozen=True)
class Scores:
    """How a model did on one evaluation set.

    Attributes:
        task: name of the evaluation set.
        metrics: every metric by name; accuracies and F1 in [0, 1], correlations in [-1, 1].
        headline: the metric quoted in tables.
        items: one row per item in the order of the rows: ``idx``, ``answer``, ``prediction``,
            ``correct``; paired tests across arms work on it.
        collapsed: whether every item got the same answer.
        truncated: items that were longer than the model may read.
        loss: mean over the items: cross-entropy in nats, a regression's squared error, or the
            negative log-likelihood in nats of a language model's right answers; NaN if answers
            were only generated.
        outputs: logits (items, classes), fp32, or a regression's values (items, 1); None if the
            model is no classifier.
        targets: class numbers or values, (items,), that go with `outputs`.
    """

    task: str
    metrics: Mapping[str, float]
    headline: str
    items: pd.DataFrame
    collapsed: bool = False
    truncated: int = 0
    loss: float = nan
    outputs: np.ndarray | None = None
    targets: np.ndarray | None = None


@dataclass(frozen=True)
class TrainingSet:
    """Rows in the form that the Hugging Face Trainer takes.

    Attributes:
        dataset: map-style data set; has a column ``length`` where batches are made of rows of
            similar length.
        collate: list of items -> batch, ``labels`` among its keys.
        rows: items that one epoch trains on.
        truncated: rows that were longer than the limit.
        grouped: whether batches are made of rows of similar length.
        callbacks: of the Trainer, for data that must know how far the training is.
        summary: more numbers for the run's record.
    """

    dataset: Any
    collate: Callable[[list[Any]], dict[str, Any]]
    rows: int
    truncated: int = 0
    grouped: bool = False
    callbacks: tuple[Any, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)


class Workbench(ABC):
    """A pretrained model without adapters, and how its tasks are trained and scored.

    Attributes:
        model: called with a batch of :class:`TrainingSet`, it returns an object with ``loss``.
        heads: names of modules that are trained in full and saved with the adapter.
        peft_task: PEFT's task type.
    """

    model: nn.Module
    heads: tuple[str, ...] = ()
    peft_task: str | None = None

    def for_task(self, task: Task, rows: pd.DataFrame) -> None:  # noqa: B027
        """Make ready for a task: the width of a head, the prompts of its classes."""

    @abstractmethod
    def training_set(self, task: Task, rows: pd.DataFrame) -> TrainingSet:
        """Prepared rows as training data."""

    @abstractmethod
    def score(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> list[Scores]:
        """Score a model on prepared rows, one entry per evaluation set.

        Args:
            model: :attr:`model` with changed weights, or a PEFT model around it.
            task: the task; :meth:`for_task` was called for it.
            rows: prepared rows of one part.

        Raises:
            CotoError: if an output is not finite.
        """

    def sweeping(self) -> AbstractContextManager[None]:
        """Score, inside, so that blocks may be replayed (:mod:`coto.workbench.replay`)."""
        return nullcontext()

    def sweeps_all(self, rows: pd.DataFrame) -> bool:
        """Whether all that :meth:`score` gives on these rows is to be had inside a sweep."""
        return True
