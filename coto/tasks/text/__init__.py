"""Text classification and regression: what each task asks, its columns, labels and metrics.

A new GLUE-shaped task of the hub is one entry here; a new offline task is one entry and, if it is
of a new kind, a function in :mod:`coto.tasks.text.offline` that builds its rows.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from coto.tasks.task import TASKS, Kind, Task

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTask(Task):
    """A text classification or regression task."""

    kind: ClassVar[Kind] = "text"

    text_columns: Names = ("text",)  # those of the source: ``text`` and, if two, ``text_pair``
    label_names: Names  # by label number; empty for regression
    corpora: Names = ()  # offline tasks only, of coto.tasks.text.vader.CORPORA
    min_rating: float = 0.0  # sentiment only: rows of a smaller absolute mean rating are left out
    test_split: str = "validation"  # hub tasks only: the labelled split reported as ``test``

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

    def scored(self) -> dict[str, Any]:
        """What training and scoring read of this entry."""
        return Task.scored(self) | {"num_labels": self.num_labels}


def _offline(name: str, code: str, summary: str, labels: Names, **more: Any) -> None:
    more = {"family": name, "code": f"coto.tasks.text.offline:{code}"} | more
    TASKS.add(TextTask(name=name, summary=summary, source="vader", label_names=labels, **more))


def _glue(name: str, family: str, summary: str, columns: Names, labels: Names, **more: Any) -> None:
    # The paper's GLUE merging table is plain accuracy for every task, CoLA and MRPC included
    # (inferred: its cells are k/n of the development sets' sizes).
    more |= {"family": family, "text_columns": columns, "label_names": labels}
    more |= {"source": "hub", "hub_path": "nyu-mll/glue", "hub_config": name}
    TASKS.add(TextTask(name=name, summary=summary, code="coto.tasks.hub:text_rows", **more))


_POSITIVE = ("negative", "positive")
_ONE, _TWO = ("sentence",), ("sentence1", "sentence2")
_ENTAILED = ("entailment", "not_entailment")
_MATTHEWS = ("accuracy", "matthews_correlation")
_F1 = ("accuracy", "f1")

# Near-neutral snippets are left out. The bound is the largest of 1.0, 0.8, 0.5 that leaves every
# corpus about 2,000 rows: most news snippets are rated close to neutral.
for _name, _what, _least in (
    ("movies", "movie review snippet", 1.0),
    ("products", "product review snippet", 1.0),
    ("tweets", "tweet", 1.0),
    ("news", "newspaper editorial snippet", 0.8),
):
    _summary = f"Is this {_what} positive? People's mean rating, |rating| >= {_least:g} of 4."
    _rated = {"family": "sentiment", "corpora": (_name,), "min_rating": _least}
    _offline(_name, "sentiment", _summary, _POSITIVE, **_rated)
_ORDER = "Is this snippet in its own word order, or were its words disturbed?"
_ORDERED = {"metrics": _MATTHEWS, "corpora": ("movies", "news")}
_offline("acceptability", "acceptability", _ORDER, ("disturbed", "original"), **_ORDERED)
# Not of products: its reviews are of a dozen devices, so that two of them often cannot be told
# apart, and a small encoder trained on both corpora for 120 steps barely learns the task.
_SOURCE = "Do two snippets come from one editorial?"
_PAIRED = {"text_columns": ("text", "text_pair"), "metrics": _F1, "corpora": ("news",)}
_offline("same-source", "same_source", _SOURCE, ("different", "same"), **_PAIRED)

_CORRECT, _VERDICTS = "Is this sentence grammatical English?", ("unacceptable", "acceptable")
_glue("cola", "acceptability", _CORRECT, _ONE, _VERDICTS, metrics=_MATTHEWS)
_NEWS = "Do two sentences of the news say the same?"
_glue("mrpc", "paraphrase", _NEWS, _TWO, ("not_equivalent", "equivalent"), metrics=_F1)
_ANSWER, _QUESTION = "Does this sentence answer the question?", ("question", "sentence")
_glue("qnli", "inference", _ANSWER, _QUESTION, _ENTAILED)
_ASK, _QUESTIONS = "Do two questions ask the same?", ("question1", "question2")
_glue("qqp", "paraphrase", _ASK, _QUESTIONS, ("not_duplicate", "duplicate"), metrics=_F1)
_glue("rte", "inference", "Does the first text entail the second?", _TWO, _ENTAILED)
_glue("sst2", "sentiment", "Is this movie review phrase positive?", _ONE, _POSITIVE)
_CLOSE = {"metrics": ("pearson", "spearmanr"), "headline": "pearson"}
_glue("stsb", "similarity", "How similar are two sentences, 0 to 5?", _TWO, (), **_CLOSE)
_FOLLOWS = "Does the premise entail, contradict or leave open the hypothesis?"
_PREMISE, _THREE = ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")
_glue("mnli", "inference", _FOLLOWS, _PREMISE, _THREE, test_split="validation_matched")
_PRONOUN = "Does the sentence with its pronoun filled in follow?"
_glue("wnli", "inference", _PRONOUN, _TWO, _ENTAILED[::-1])
