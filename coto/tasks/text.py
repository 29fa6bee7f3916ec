"""Text classification and regression: what each task asks, its columns, labels and metrics.

A new GLUE-shaped task of the hub is one entry here; a new offline task is one entry and, if it is
of a new kind, one file in :mod:`coto.tasks.offline` named by ``builder``.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from coto.tasks.task import Kind, Task

Metric = Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearmanr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTask(Task):
    """A text classification or regression task.

    Attributes:
        text_columns: Columns of the source that become ``text`` and, if two, ``text_pair``.
        label_names: Names by label number; empty for regression.
        builder: Offline tasks only: module of :mod:`coto.tasks.offline` with a ``build`` function.
        corpora: Offline tasks only: corpora that it reads, see :data:`coto.tasks.vader.CORPORA`.
        min_rating: Sentiment only: rows with a smaller absolute mean rating are left out.
        test_split: Hub tasks only: the labelled split that is reported as ``test``.
    """

    kind: ClassVar[Kind] = "text"

    text_columns: tuple[str, ...] = ("text",)
    label_names: tuple[str, ...]
    builder: str = ""
    corpora: tuple[str, ...] = ()
    min_rating: float = 0.0
    test_split: str = "validation"

    @property
    def num_labels(self) -> int:
        """Width of the head; 1 means regression."""
        return len(self.label_names) or 1

    @property
    def is_regression(self) -> bool:
        """Whether labels are real numbers rather than classes."""
        return not self.label_names

    @property
    def is_pair(self) -> bool:
        """Whether rows carry a ``text_pair``."""
        return len(self.text_columns) == 2

    @property
    def module(self) -> str:
        """The module that builds the rows."""
        return f"coto.tasks.offline.{self.builder}" if self.source == "vader" else "coto.tasks.hub"

    def scored(self) -> dict[str, Any]:
        """What training and scoring read of this entry."""
        return Task.scored(self) | {"num_labels": self.num_labels}


def _sentiment(name: str, what: str, min_rating: float) -> TextTask:
    return TextTask(
        name=name,
        family="sentiment",
        summary=f"Is this {what} positive? People's mean rating, |rating| >= {min_rating:g} of 4.",
        source="vader",
        label_names=("negative", "positive"),
        builder="sentiment",
        corpora=(name,),
        min_rating=min_rating,
    )


def _glue(
    name: str,
    family: str,
    summary: str,
    text_columns: tuple[str, ...],
    label_names: tuple[str, ...],
    *,
    metrics: tuple[Metric, ...] = ("accuracy",),
    test_split: str = "validation",
) -> TextTask:
    # The first metric is the headline. The paper's GLUE merging table is plain accuracy for every
    # task, CoLA and MRPC included (inferred: its cells are k/n of the development sets' sizes).
    return TextTask(
        name=name,
        family=family,
        summary=summary,
        source="hub",
        text_columns=text_columns,
        label_names=label_names,
        metrics=metrics,
        headline=metrics[0],
        hub_path="nyu-mll/glue",
        hub_config=name,
        test_split=test_split,
    )


# Near-neutral snippets are left out. The bound is the largest of 1.0, 0.8, 0.5 that leaves every
# corpus about 2,000 rows: most news snippets are rated close to neutral.
OFFLINE_TASKS = (
    _sentiment("movies", "movie review snippet", 1.0),
    _sentiment("products", "product review snippet", 1.0),
    _sentiment("tweets", "tweet", 1.0),
    _sentiment("news", "newspaper editorial snippet", 0.8),
    TextTask(
        name="acceptability",
        family="acceptability",
        summary="Is this snippet in its own word order, or were its words disturbed?",
        source="vader",
        label_names=("disturbed", "original"),
        metrics=("accuracy", "matthews_correlation"),
        builder="acceptability",
        corpora=("movies", "news"),
    ),
    TextTask(
        name="same-source",
        family="same-source",
        summary="Do two snippets come from one editorial?",
        source="vader",
        text_columns=("text", "text_pair"),
        label_names=("different", "same"),
        metrics=("accuracy", "f1"),
        builder="same_source",
        # Not products: its reviews are of a dozen devices, so that two of them often cannot be told
        # apart, and a small encoder trained on both corpora for 120 steps barely learns the task.
        corpora=("news",),
    ),
)

GLUE_TASKS = (
    _glue(
        "cola",
        "acceptability",
        "Is this sentence grammatical English?",
        ("sentence",),
        ("unacceptable", "acceptable"),
        metrics=("accuracy", "matthews_correlation"),
    ),
    _glue(
        "mrpc",
        "paraphrase",
        "Do two sentences of the news say the same?",
        ("sentence1", "sentence2"),
        ("not_equivalent", "equivalent"),
        metrics=("accuracy", "f1"),
    ),
    _glue(
        "qnli",
        "inference",
        "Does this sentence answer the question?",
        ("question", "sentence"),
        ("entailment", "not_entailment"),
    ),
    _glue(
        "qqp",
        "paraphrase",
        "Do two questions ask the same?",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        metrics=("accuracy", "f1"),
    ),
    _glue(
        "rte",
        "inference",
        "Does the first text entail the second?",
        ("sentence1", "sentence2"),
        ("entailment", "not_entailment"),
    ),
    _glue(
        "sst2",
        "sentiment",
        "Is this movie review phrase positive?",
        ("sentence",),
        ("negative", "positive"),
    ),
    _glue(
        "stsb",
        "similarity",
        "How similar are two sentences, 0 to 5?",
        ("sentence1", "sentence2"),
        (),
        metrics=("pearson", "spearmanr"),
    ),
    _glue(
        "mnli",
        "inference",
        "Does the premise entail, contradict or leave open the hypothesis?",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        test_split="validation_matched",
    ),
    _glue(
        "wnli",
        "inference",
        "Does the sentence with its pronoun filled in follow?",
        ("sentence1", "sentence2"),
        ("not_entailment", "entailment"),
    ),
)
