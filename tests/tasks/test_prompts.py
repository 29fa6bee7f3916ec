"""Prompts to the letter: a model answers white space too."""

import pytest

from coto.tasks.language import STYLE_OF, STYLES, prompt, target
from coto.tasks.registry import TASKS

BELOW = "Below is an instruction that describes a task. Write a response that appropriately "
INDENT = " " * 16
QUESTION = "Is {it} 5 %s?\n\nAnswer format: true/false"


@pytest.mark.parametrize("name", ["", "boolq", "piqa", "hellaswag", "answer"])
def test_llm_adapters_evaluation_prompt(name: str) -> None:
    assert prompt(QUESTION, name) == (
        f"{BELOW}completes the request. \n\n"
        f"{INDENT}### Instruction:\n"
        f"{INDENT}Is {{it}} 5 %s?\n\n"
        "Answer format: true/false\n\n"
        f"{INDENT}### Response:\n"
        f"{INDENT}"
    )
    assert target("answer2", name) == "the correct answer is answer2"


@pytest.mark.parametrize("name", ["gsm8k", "metamath"])
def test_lora_pro_prompt_and_solution_have_a_blank_between_them(name: str) -> None:
    solution = "2 + 3 = 5\n#### 5\nThe answer is: 5"
    assert prompt("How many?", name) + target(solution, name) == (
        f"{BELOW}completes the request.\n\n"
        f"### Instruction:\nHow many?\n\n### Response:\n {solution}"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("next-sentence", "sentiment-question", "word-choice"),
        *("nice-word", "larger-number", "spelling"),
    ],
)
def test_sets_for_a_cpu_spend_no_token_on_a_frame(name: str) -> None:
    assert prompt("It was late.", name) + target("We left.", name) == "It was late. We left."


def test_styles_are_known_and_of_known_sets() -> None:
    assert set(STYLE_OF.values()) <= set(STYLES)
    assert set(STYLE_OF) - {"metamath"} <= {
        name for task in TASKS.values() for name in (*task.sets, task.name)
    }
