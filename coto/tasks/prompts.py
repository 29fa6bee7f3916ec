"""What a language model is asked, and what it should say.

Training and evaluation ask alike. LLM-Adapters' scripts do not: in the training prompt "request."
has two spaces after it (earlier versions: a stray ``# noqa: E501`` too), in the evaluation prompt
one, and the empty line before "### Response:" is indented in training only. That is an accident; it
makes a model answer another prompt than it was trained on. Here both are the evaluation's.

To ask an evaluation set in another style, change its entry in ``STYLE_OF``; a new style is one
entry of ``STYLES``. HiRA's prompt is LLM-Adapters' without indentation.
"""

from collections.abc import Callable

# LLM-Adapters' indentation is that of its source code, kept by an f-string; only the first line of
# an instruction gets it.
_TEMPLATE = """\
Below is an instruction that describes a task. Write a response that appropriately completes the \
request.{space}

{indent}### Instruction:
{indent}{instruction}

{indent}### Response:
{indent}"""


def _llm_adapters(instruction: str) -> str:
    return _TEMPLATE.format(space=" ", indent=" " * 16, instruction=instruction)


def _alpaca(instruction: str) -> str:
    return _TEMPLATE.format(space="", indent="", instruction=instruction)


def _bare(instruction: str) -> str:
    return instruction


def _sentence(answer: str) -> str:
    return f"the correct answer is {answer}"


def _after_blank(answer: str) -> str:
    return f" {answer}"


# Style -> the prompt around an instruction, and the target around an answer.
STYLES: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    # Commonsense reasoning (Hu et al. 2023, commonsense_evaluate.py).
    "llm-adapters": (_llm_adapters, _sentence),
    # Math (Wang et al. 2024, LoRA-Pro): Alpaca's prompt without input, a blank, the solution.
    "alpaca": (_alpaca, _after_blank),
    # Sets of our own for a CPU, which pays for every token: the instruction and the answer.
    "bare": (_bare, _after_blank),
}
# Evaluation set -> style; all others are asked as in LLM-Adapters.
STYLE_OF = {
    "gsm8k": "alpaca",
    "metamath": "alpaca",
    "next-sentence": "bare",
    "sentiment-question": "bare",
    "word-choice": "bare",
}


def prompt(instruction: str, name: str = "") -> str:
    """The whole prompt of an item of an evaluation set."""
    return STYLES[STYLE_OF.get(name, "llm-adapters")][0](instruction)


def target(answer: str, name: str = "") -> str:
    """What the model should say after the prompt: ``the correct answer is answer2``."""
    return STYLES[STYLE_OF.get(name, "llm-adapters")][1](answer)
