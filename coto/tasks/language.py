"""Tasks of causal language models: what one run trains on, and the sets that it is scored on.

Evaluation sets have the names of lm-eval's tasks; LLM-Adapters' files are called otherwise. A new
set of LLM-Adapters' form is one entry of ``SETS``.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from coto.tasks.task import Kind, Task

# Evaluation set -> its folder in LLM-Adapters.
SETS = {
    "boolq": "boolq",
    "piqa": "piqa",
    "social_iqa": "social_i_qa",
    "hellaswag": "hellaswag",
    "winogrande": "winogrande",
    "arc_easy": "ARC-Easy",
    "arc_challenge": "ARC-Challenge",
    "openbookqa": "openbookqa",
}
GSM8K = "LLM-Adapters/dataset/gsm8k/test.json"
METAMATH = "meta-math/MetaMathQA/MetaMathQA-395K.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageTask(Task):
    """A training set of a language model with its evaluation sets.

    Attributes:
        training_file: Hub tasks only: path of the training rows below a mirror.
        test_files: Hub tasks only: paths of the evaluation sets, in the order of ``sets``.
        builders: Offline tasks only: modules of :mod:`coto.tasks.offline`, in the order of
            ``sets``.
    """

    kind: ClassVar[Kind] = "language"

    training_file: str = ""
    test_files: tuple[str, ...] = ()
    builders: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module that makes the rows."""
        return f"coto.tasks.language_{'offline' if self.source == 'vader' else 'files'}"

    def scored(self) -> dict[str, Any]:
        """What training and scoring read of this entry."""
        return Task.scored(self) | {"sets": list(self.sets)}


def _llm_adapters(name: str, summary: str, training: str, sets: tuple[str, ...]) -> LanguageTask:
    training_file = f"LLM-Adapters/ft-training_set/{training}"
    test_files = tuple(f"LLM-Adapters/dataset/{SETS[name]}/test.json" for name in sets)
    return LanguageTask(
        name=name,
        family="commonsense",
        summary=summary,
        source="hub",
        sets=sets,
        training_file=training_file,
        test_files=test_files,
        files=(training_file, *test_files),
    )


LANGUAGE_TASKS = (
    _llm_adapters(
        "commonsense",
        "Eight commonsense sets at once, 170,420 items (Hu et al. 2023).",
        "commonsense_170k.json",
        tuple(SETS),
    ),
    _llm_adapters(
        "commonsense-18k",
        "The training parts of four of the sets, 17,754 items: a stand-in for commonsense.",
        "commonsense_18k.json",
        ("boolq", "piqa", "arc_easy", "arc_challenge", "openbookqa"),
    ),
    LanguageTask(
        name="math",
        family="math",
        summary="Worked solutions of grade-school problems: MetaMathQA's GSM part, then GSM8K.",
        source="hub",
        sets=("gsm8k",),
        metrics=("generated", "original"),
        headline="generated",
        training_file=METAMATH,
        test_files=(GSM8K,),
        files=(METAMATH, GSM8K),
    ),
    LanguageTask(
        name="snippets",
        family="snippets",
        summary="Snippets of reviews and editorials: what follows, is it positive, which word.",
        source="vader",
        sets=("next-sentence", "sentiment-question", "word-choice"),
        builders=("next_sentence", "sentiment_question", "word_choice"),
    ),
)
