"""Tasks of causal language models: what one run trains on, the sets that it is scored on, prompts.

Training and evaluation ask alike. LLM-Adapters' scripts, by accident, do not: in their training
prompt "request." has two spaces after it (earlier versions: a stray ``# noqa: E501`` too), in the
evaluation prompt one, and the empty line before "### Response:" is indented in training only. Here
both are the evaluation's. HiRA's prompt is LLM-Adapters' without indentation.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from coto.tasks.task import TASKS, Kind, Task

# Evaluation set, as lm-eval calls it -> its folder in LLM-Adapters.
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
# Metrics of candidate answers that are ranked: by likelihood, and by likelihood per character.
RANKED = ("accuracy", "accuracy_norm")
_SNIPPET_SETS = ("next-sentence", "sentiment-question", "word-choice")
COLUMNS = ["set", "instruction", "choices", "answer", "idx"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageTask(Task):
    """A training set of a language model with its evaluation sets.

    Of a task of plain files the first one is the training rows, the others are the sets in order.
    """

    kind: ClassVar[Kind] = "language"

    def scored(self) -> dict[str, Any]:
        """What training and scoring read of this entry."""
        return Task.scored(self) | {"sets": list(self.sets)}


def _add(name: str, family: str, summary: str, code: str, **more: Any) -> None:
    code = f"coto.tasks.language.{code}"
    TASKS.add(LanguageTask(name=name, family=family, summary=summary, code=code, **more))


def _llm_adapters(name: str, summary: str, training: str, *sets: str) -> None:
    tests = [f"LLM-Adapters/dataset/{SETS[name]}/test.json" for name in sets]
    files = (f"LLM-Adapters/ft-training_set/{training}", *tests)
    more = {"source": "hub", "metrics": RANKED, "sets": sets, "files": files}
    _add(name, "commonsense", summary, "files:commonsense", **more)


_EIGHT = "Eight commonsense sets at once, 170,420 items (Hu et al. 2023)."
_llm_adapters("commonsense", _EIGHT, "commonsense_170k.json", *SETS)
_FOUR = "The training parts of four of the sets, 17,754 items: a stand-in for commonsense."
_FOUR_SETS = ("boolq", "piqa", "arc_easy", "arc_challenge", "openbookqa")
_llm_adapters("commonsense-18k", _FOUR, "commonsense_18k.json", *_FOUR_SETS)
_SOLVE = "Worked solutions of grade-school problems: MetaMathQA's GSM part, then GSM8K."
_SOLVED = {"sets": ("gsm8k",), "metrics": ("generated", "original"), "headline": "generated"}
_FILES = ("meta-math/MetaMathQA/MetaMathQA-395K.json", "LLM-Adapters/dataset/gsm8k/test.json")
_add("math", "math", _SOLVE, "files:math", source="hub", files=_FILES, **_SOLVED)
_READ = "Snippets of reviews and editorials: what follows, is it positive, which word."
_SNIPPETS = {"source": "vader", "metrics": RANKED, "sets": _SNIPPET_SETS}
_add("snippets", "snippets", _READ, "offline:questions", **_SNIPPETS)

# Questions of one word or of two numbers, answered yes or no, which a small language model answers
# at chance: what its adapters learn is all that it knows of them.
_YES_NO = {"metrics": ("accuracy", "accuracy_calibrated")}
_NICE = "Is this a nice word? The sign of people's mean rating in VADER's lexicon."
_add("nice-word", "words", _NICE, "words:questions", source="vader", **_YES_NO)
_LARGER = "Is the first of two numbers of three digits the larger one?"
_add("larger-number", "numbers", _LARGER, "words:questions", source="made", **_YES_NO)
_SPELLED = "Is this word spelled right, or are two of its letters swapped?"
_add("spelling", "words", _SPELLED, "words:questions", source="vader", **_YES_NO)
_OF_WORDS = ("nice-word", "larger-number", "spelling")

# LLM-Adapters' indentation is that of its source code, kept by an f-string; only the first line of
# an instruction gets it.
_TEMPLATE = """\
Below is an instruction that describes a task. Write a response that appropriately completes the \
request.{space}

{indent}### Instruction:
{indent}{{}}

{indent}### Response:
{indent}"""
# Style -> the prompt around an instruction, and the target around an answer.
STYLES = {
    # Commonsense reasoning (Hu et al. 2023, commonsense_evaluate.py).
    "llm-adapters": (_TEMPLATE.format(space=" ", indent=" " * 16), "the correct answer is {}"),
    # Math (Wang et al. 2024, LoRA-Pro): Alpaca's prompt without input, a blank, the solution.
    "alpaca": (_TEMPLATE.format(space="", indent=""), " {}"),
    # Sets of our own for a CPU, which pays for every token: the instruction and the answer.
    "bare": ("{}", " {}"),
}
# Evaluation set -> style; all others are asked as in LLM-Adapters.
STYLE_OF = {
    **dict.fromkeys(("gsm8k", "metamath"), "alpaca"),
    **dict.fromkeys((*_SNIPPET_SETS, *_OF_WORDS), "bare"),
}


def prompt(instruction: str, name: str = "") -> str:
    """The whole prompt of an item of an evaluation set."""
    return STYLES[STYLE_OF.get(name, "llm-adapters")][0].format(instruction)


def target(answer: str, name: str = "") -> str:
    """What the model should say after the prompt: ``the correct answer is answer2``."""
    return STYLES[STYLE_OF.get(name, "llm-adapters")][1].format(answer)
