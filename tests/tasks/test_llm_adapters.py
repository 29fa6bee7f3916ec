"""LLM-Adapters' files and MetaMathQA: small ones laid out as a mirror, and the real ones."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from coto.errors import CotoError
from coto.models.causal.answers import number
from coto.tasks.hub import mirror_files
from coto.tasks.language import files as language_files
from coto.tasks.load import load_task
from coto.tasks.registry import TASKS

STAND_IN = TASKS["commonsense-18k"]
TRAINING = "LLM-Adapters/ft-training_set/commonsense_18k.json"
METAMATH, GSM8K = TASKS["math"].files
BOOLQ = "LLM-Adapters/dataset/boolq/test.json"
FORMS = {
    "boolq": ["true", "false"],
    "piqa": ["solution1", "solution2"],
    "arc_easy": ["answer1", "answer2", "answer3", "answer4"],
    "arc_challenge": ["answer1", "answer2", "answer3", "answer4", "answer5"],
    "openbookqa": ["answer1", "answer2", "answer3", "answer4"],
}


def item(question: str, choices: list[str], answer: str, **changed: Any) -> dict[str, Any]:
    return {
        "instruction": f"Please answer: {question}\n\nAnswer format: {'/'.join(choices)}",
        "input": "",
        "output": f"the correct answer is {answer}",
        "answer": answer,
        **changed,
    }


def write(root: Path, file: str, items: Any) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(items if isinstance(items, str) else json.dumps(items))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """All files of the stand-in: 600 training items, 12 of each test set."""
    forms = [FORMS["boolq"], FORMS["arc_easy"]]
    training = [
        item(f"training {i}?", forms[i % 2], forms[i % 2][i // 2 % len(forms[i % 2])])
        for i in range(600)
    ]
    write(tmp_path, TRAINING, training)
    for name, file in zip(STAND_IN.sets, STAND_IN.files[1:], strict=True):
        form = FORMS[name]
        items = [item(f"{name} {i}?", form, form[i % len(form)]) for i in range(12)]
        write(tmp_path, file, items)
    return tmp_path


def load(mirror: Path, **limits: int) -> dict[str, pd.DataFrame]:
    return load_task("commonsense-18k", mirror=mirror, limits=limits)


def test_items_keep_their_words_number_and_set(mirror: Path) -> None:
    frames = load(mirror)
    test = frames["test"]
    assert list(test["set"].unique()) == list(STAND_IN.sets)
    for row in test.itertuples():
        assert row.instruction.startswith(f"Please answer: {row.set} {row.idx}?")
        assert row.choices == FORMS[row.set]
        assert row.answer == FORMS[row.set][row.idx % len(FORMS[row.set])]
    assert len(frames["train"]) + len(frames["validation"]) == 600
    assert 1 <= len(frames["validation"]) <= 20
    assert not set(frames["train"]["instruction"]) & set(frames["validation"]["instruction"])


def test_a_smaller_limit_gives_a_subset_and_counts_per_test_set(mirror: Path) -> None:
    whole, some = load(mirror), load(mirror, train=50, validation=2, test=4)
    pd.testing.assert_frame_equal(some["train"], whole["train"].iloc[:50])
    pd.testing.assert_frame_equal(some["validation"], whole["validation"].iloc[:2])
    assert some["test"].groupby("set").size().to_dict() == dict.fromkeys(STAND_IN.sets, 4)
    numbers = [frames["test"].groupby("set")["idx"].agg(list) for frames in (some, whole)]
    assert (numbers[0] == numbers[1].str[:4]).all()
    assert some["train"]["set"].nunique() == 2  # in the order of a hash, not of the file's forms


def test_row_order_of_the_files_does_not_matter(mirror: Path) -> None:
    before = load(mirror)
    for file in STAND_IN.files:
        write(mirror, file, json.loads((mirror / file).read_text())[::-1])
    for split, frame in load(mirror).items():
        pd.testing.assert_frame_equal(frame.drop(columns="idx"), before[split].drop(columns="idx"))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"instruction": "  "}, "instruction = '  ': expected text"),
        ({"instruction": None}, "instruction = None: expected text"),
        ({"answer": ""}, "answer = '': expected text"),
        ({"answer": 1}, "answer = 1: expected text"),
        ({"answer": "maybe"}, "answer = 'maybe': expected one of true, false"),
        ({"instruction": "Is it?"}, "instruction: expected it to end with 'Answer format: …/…'"),
        (
            {"instruction": "Is it?\n\nAnswer format: true"},
            "instruction: 'true' at its end: expected different answers",
        ),
        (
            {"instruction": "Is it?\n\nAnswer format: true/true"},
            "instruction: 'true/true' at its end: expected different answers",
        ),
        ({"input": "A passage."}, "input = 'A passage.': expected none"),
        (
            {"output": "the correct answer is false"},
            "output = 'the correct answer is false': expected it to name the answer, true",
        ),
        ("a line", "instruction = None: expected text"),
    ],
)
@pytest.mark.parametrize("file", [TRAINING, BOOLQ])
def test_malformed_items_are_named(mirror: Path, file: str, broken: Any, message: str) -> None:
    items = json.loads((mirror / file).read_text())
    whole = item("Is it?", FORMS["boolq"], "true")
    items[7] = whole | broken if isinstance(broken, dict) else broken
    write(mirror, file, items)
    with pytest.raises(CotoError) as error:
        load(mirror)
    assert str(error.value) == f"{mirror / file}: item 7: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected a list of items, found an empty one"),
        ("{}", "expected a list of items, found dict"),
        ('[{"instruction": "Is', "cannot be read as JSON (Unterminated string"),
        ("version https://git-lfs.github.com/spec/v1\noid", "cannot be read as JSON (Expecting"),
    ],
)
def test_files_that_hold_no_items_are_named(mirror: Path, content: str, message: str) -> None:
    write(mirror, BOOLQ, content)
    with pytest.raises(CotoError) as error:
        load(mirror)
    assert str(error.value).startswith(f"{mirror / BOOLQ}: {message}")
    assert "\n" not in str(error.value)


def test_what_occurs_twice_is_counted_and_stays(
    mirror: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = json.loads((mirror / TRAINING).read_text())
    test = json.loads((mirror / BOOLQ).read_text())
    write(mirror, TRAINING, [*training, training[0], training[0], test[3]])
    write(mirror, BOOLQ, [*test, test[5]])
    with caplog.at_level(logging.INFO):
        frames = load(mirror)
    assert "commonsense-18k: 2 of 603 training rows ask what one before them asks" in caplog.text
    assert "boolq: 1 of 13 test items are among the training rows, 1 occur twice" in caplog.text
    assert len(frames["train"]) + len(frames["validation"]) == 603
    assert len(frames["test"].query("set == 'boolq'")) == 13
    assert caplog.text.count("sha256 ") == len(STAND_IN.files)


def test_absent_files_are_told_in_one_line(mirror: Path) -> None:
    (mirror / BOOLQ).unlink()
    message = f"task commonsense-18k: {mirror / BOOLQ} is missing, expected the file there"
    with pytest.raises(CotoError) as error:
        mirror_files(STAND_IN, mirror)
    assert str(error.value) == message
    gone = "LLM-Adapters/dataset/openbookqa/test.json"
    (mirror / gone).unlink()
    with pytest.raises(CotoError) as error:
        load(mirror)
    assert str(error.value) == f"{message}; so are {gone}"


def test_absent_files_are_told_before_any_job(mirror: Path) -> None:
    assert mirror_files(STAND_IN, mirror)[0] == mirror / TRAINING
    (mirror / TRAINING).unlink()
    with pytest.raises(CotoError, match=r"^task commonsense-18k: .*18k\.json is missing"):
        mirror_files(STAND_IN, mirror)
    with pytest.raises(CotoError, match=r"commonsense_170k\.json is missing.*hellaswag"):
        mirror_files(TASKS["commonsense"], mirror)


def test_a_download_that_fails_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_files, "_HUB", (tmp_path / "none").as_uri() + "/")
    with pytest.raises(CotoError, match=r"^task math: file://.*as data.mirror$") as error:
        load_task("math", cache=tmp_path)
    assert "\n" not in str(error.value)


def test_a_download_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    write(source, "meta-math/MetaMathQA/resolve/main/MetaMathQA-395K.json", _metamath(40))
    write(source, GSM8K.removeprefix("LLM-Adapters/"), [_problem("2.0")])
    monkeypatch.setattr(language_files, "_HUB", source.as_uri() + "/")
    monkeypatch.setattr(language_files, "_LLM_ADAPTERS", source.as_uri() + "/")
    first = load_task("math", cache=tmp_path / "cache")
    monkeypatch.setattr(language_files, "_HUB", "file:///none/")
    monkeypatch.setattr(language_files, "_LLM_ADAPTERS", "file:///none/")
    for split, frame in load_task("math", cache=tmp_path / "cache").items():
        pd.testing.assert_frame_equal(frame, first[split])


def _metamath(count: int, **changed: Any) -> list[dict[str, Any]]:
    return [
        {
            "query": f"What is {i} + 1?",
            "response": f"{i} + 1 = {i + 1}\n#### {i + 1}\nThe answer is: {i + 1}",
            "type": ("GSM_AnsAug", "MATH_AnsAug", "GSM_FOBAR", "GSM_SV")[i % 4],
            **changed,
        }
        for i in range(count)
    ]


def _problem(answer: str, question: str = "How many?") -> dict[str, Any]:
    return {"instruction": question, "input": "", "output": "\nA: Some.", "answer": answer}


def _math(root: Path, training: Any, test: Any, **limits: int) -> dict[str, pd.DataFrame]:
    write(root, METAMATH, training)
    write(root, GSM8K, test)
    return load_task("math", mirror=root, limits=limits)


def test_metamath_is_its_gsm_part_in_order_and_whole(tmp_path: Path) -> None:
    frames = _math(tmp_path, _metamath(440), [_problem("3.0")])
    train, validation = frames["train"], frames["validation"]
    assert (len(train), len(validation)) == (300, 30)  # 100,000 and 10,000 of a longer file
    both = [*train["idx"], *validation["idx"]]
    assert both == [i for i in range(440) if i % 4 != 1]
    assert train["answer"][1] == "2 + 1 = 3\n#### 3\nThe answer is: 3"
    limited = _math(tmp_path, _metamath(440), [_problem("3.0")], train=20)["train"]
    pd.testing.assert_frame_equal(limited, train.iloc[:20])


def test_metamath_items_of_512_tokens_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = _metamath(40)
    training[8]["response"] = "1 + 1 = 2. " * 85  # six words, digits and marks each
    training[12]["response"] = "1 + 1 = 2. " * 60
    with caplog.at_level(logging.INFO):
        frames = _math(tmp_path, training, [_problem("3.0")])
    kept = {*frames["train"]["idx"], *frames["validation"]["idx"]}
    assert 8 not in kept
    assert 12 in kept
    assert "1 items of 512 tokens or more are left out" in caplog.text


@pytest.mark.parametrize(
    ("answer", "spelled"),
    [
        *(("1080.0", "1080"), ("1,080", "1080"), ("1,080.50", "1080.5"), ("-3.0", "-3")),
        *(
            ("5", "5"),
            ("0.0", "0"),
            ("0.25", "0.25"),
            ("100", "100"),
            ("70000000000.0", "7" + "0" * 10),
        ),
    ],
)
def test_gsm8k_numbers_are_spelled_as_in_gsm8k(tmp_path: Path, answer: str, spelled: str) -> None:
    test = _math(tmp_path, _metamath(40), [_problem(answer)])["test"]
    assert test["answer"][0] == f"A: Some.\n#### {spelled}"
    assert number(test["answer"][0]) == spelled
    assert (test["set"][0], test["choices"][0]) == ("gsm8k", [])


def test_gsm8k_problems_without_a_solution_have_their_number(tmp_path: Path) -> None:
    problem = _problem("650.0") | {"output": ""}
    assert list(_math(tmp_path, _metamath(40), [problem])["test"]["answer"]) == ["#### 650"]


@pytest.mark.parametrize("answer", ["many", "nan", "inf", "1080 apples", ""])
def test_gsm8k_answers_that_are_no_numbers_are_named(tmp_path: Path, answer: str) -> None:
    with pytest.raises(CotoError, match=r"gsm8k/test.json: item 1: answer = .*: expected "):
        _math(tmp_path, _metamath(40), [_problem("3.0"), _problem(answer)])


@pytest.mark.parametrize("broken", [{"query": ""}, {"response": None}, {"type": " "}])
def test_malformed_metamath_is_named(tmp_path: Path, broken: dict[str, Any]) -> None:
    training = _metamath(40)
    training[4] |= broken
    key = next(iter(broken))
    with pytest.raises(CotoError, match=rf"MetaMathQA-395K.json: item 4: {key} = .*expected text"):
        _math(tmp_path, training, [_problem("3.0")])


def test_metamath_without_its_gsm_part_is_told(tmp_path: Path) -> None:
    with pytest.raises(CotoError, match=r"^task math: no row is left in train$"):
        _math(tmp_path, _metamath(40, type="MATH_SV"), [_problem("3.0")])


@pytest.fixture(scope="module")
def real(real_mirror: Path) -> Path:
    if not (real_mirror / TRAINING).is_file():
        pytest.skip(f"no {TRAINING} in the mirror {real_mirror}")
    return real_mirror


def test_the_real_stand_in(real: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = load(real)
    assert len(frames["train"]) + len(frames["validation"]) == 17_754
    assert 100 < len(frames["validation"]) < 260
    assert frames["test"].groupby("set").size().to_dict() == {
        "boolq": 3270,
        "piqa": 1838,
        "arc_easy": 2376,
        "arc_challenge": 1172,
        "openbookqa": 500,
    }
    assert frames["train"]["set"].value_counts(normalize=True)["true"] == pytest.approx(
        9427 / 17_754, abs=0.01
    )
    assert "6 of 17754 training rows ask what one before them asks" in caplog.text
    assert "arc_easy: 2 of 2376 test items are among the training rows" in caplog.text


def test_real_gsm8k(real: Path, tmp_path: Path) -> None:
    test = _math(tmp_path, _metamath(40), (real / GSM8K).read_text())["test"]
    assert len(test) == 1319
    source = json.loads((real / GSM8K).read_text())
    for row in test.itertuples():
        assert float(number(row.answer)) == float(source[row.idx]["answer"])


def test_the_real_mirror_lacks_the_whole_of_commonsense_and_says_so(real: Path) -> None:
    with pytest.raises(CotoError, match=r"^task commonsense: .*commonsense_170k.json is missing"):
        load_task("commonsense", mirror=real)
    with pytest.raises(CotoError, match=r"^task math: .*MetaMathQA-395K.json is missing"):
        load_task("math", mirror=real)
