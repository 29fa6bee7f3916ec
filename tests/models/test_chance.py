import pandas as pd
import pytest

from coto.models.scoring import chance
from coto.tasks.registry import TASKS

ABCD = [f"answer{i}" for i in range(1, 5)]


def _rows(name: str, choices: list[str], answers: list[str]) -> pd.DataFrame:
    rows = {"set": name, "choices": [choices] * len(answers), "answer": answers}
    return pd.DataFrame(rows).assign(instruction="?", idx=range(len(answers)))


def test_majority_is_of_training_and_guessing_of_the_choices() -> None:
    train = _rows("arc_easy", ABCD, ["answer2", "answer2", "answer1"])
    test = pd.concat(
        [
            _rows("arc_easy", ABCD, ["answer1", "answer1", "answer2"]),
            _rows("arc_easy", [*ABCD, "answer5"], ["answer5"]),
        ]
    )
    found = chance(TASKS["commonsense-18k"], train, test)
    (majority,), (random,) = found["majority"], found["random"]
    assert majority.metrics == {"accuracy": 1 / 4}  # the test part's own would be right twice
    assert list(majority.items["correct"]) == [False, False, True, False]
    assert random.metrics["accuracy"] == pytest.approx((3 / 4 + 1 / 5) / 4)
    assert random.items.empty


def test_words_are_compared_by_place_and_sets_apart() -> None:
    train = pd.concat(
        [
            _rows("word-choice", ["red", "blue"], ["red", "red", "blue"]),
            _rows("next-sentence", ["We left.", "They ran."], ["They ran."]),
        ]
    )
    test = pd.concat(
        [
            _rows("word-choice", ["dog", "cat"], ["dog", "cat", "dog"]),
            _rows("next-sentence", ["No.", "Yes."], ["Yes.", "Yes."]),
        ]
    )
    found = chance(TASKS["snippets"], train, test)
    assert {scores.task: scores.metrics["accuracy"] for scores in found["majority"]} == {
        "word-choice": pytest.approx(2 / 3),
        "next-sentence": 1.0,
    }


def test_training_rows_that_do_not_say_their_set_count_by_their_choices() -> None:
    train = pd.concat(
        [
            _rows("true", ["true", "false"], ["false", "false", "true"]),
            _rows("answer", ABCD, ["answer3"]),
        ]
    )
    test = pd.concat(
        [
            _rows("boolq", ["true", "false"], ["true", "true", "false"]),
            _rows("openbookqa", ABCD, ["answer3", "answer1"]),
            _rows("piqa", ["solution1", "solution2"], ["solution2", "solution2", "solution1"]),
        ]
    )
    found = chance(TASKS["commonsense-18k"], train, test)
    assert [(scores.task, scores.metrics["accuracy"]) for scores in found["majority"]] == [
        ("boolq", pytest.approx(1 / 3)),
        ("openbookqa", 1 / 2),
        ("piqa", pytest.approx(2 / 3)),  # nothing like it in training
    ]


def test_parquet_gives_arrays(tmp_path) -> None:
    rows = _rows("boolq", ["true", "false"], ["true", "true", "false"])
    rows.to_parquet(tmp_path / "rows.parquet")
    stored = pd.read_parquet(tmp_path / "rows.parquet")
    (majority,) = chance(TASKS["commonsense-18k"], stored, stored)["majority"]
    assert majority.metrics["accuracy"] == pytest.approx(2 / 3)


def test_classes_are_counted_by_the_task() -> None:
    train = pd.DataFrame({"label": [2, 2, 0], "idx": range(3)})
    test = pd.DataFrame({"label": [2, 1, 0, 0], "idx": range(4)})
    found = chance(TASKS["mnli"], train, test)  # three classes, two of them in training
    assert found["majority"][0].metrics["accuracy"] == 1 / 4
    assert found["random"][0].metrics["accuracy"] == pytest.approx(1 / 3)
    test.attrs["class_names"] = list("abcde")
    assert chance(TASKS["digits"], train, test)["random"][0].metrics["accuracy"] == 1 / 5


def test_numbers_and_solutions_have_no_chance_level() -> None:
    scores = pd.DataFrame({"label": [0.5, 4.2], "idx": [0, 1]})
    assert chance(TASKS["stsb"], scores, scores) == {}
    solutions = _rows("gsm8k", [], ["5\n#### 5", "7\n#### 7"])
    assert chance(TASKS["math"], solutions, solutions) == {}
