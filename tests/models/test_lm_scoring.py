import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pandas as pd
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError

from coto.errors import CotoError
from coto.models.causal import answers as reading
from coto.models.causal.answers import (
    TASKS,
    documents,
    first_named,
    number,
    original_number,
    score_rows,
)
from coto.models.causal.harness import STANDARD, Scorer, check_standard, quiet, score_standard
from coto.models.causal.loading import Causal
from coto.models.settings import Evaluation
from tests.models.small_causal import load, rows, save

RANKING = Evaluation(batch_tokens=400)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Causal:
    return load(save(tmp_path_factory.mktemp("model")))


def of_words(count: int = 50) -> pd.DataFrame:
    """Choices of several words each, that share no last token's context."""
    frame = rows(count, name="word-choice", choices=3)
    frame["choices"] = [["the dog", "a very long walk", f"why {i}"] for i in range(count)]
    frame["answer"] = [choices[i % 3] for i, choices in enumerate(frame["choices"])]
    return frame


def directly(causal: Causal, frame: pd.DataFrame) -> list[list[float]]:
    """Log-likelihood of each candidate, from the definition: one text at a time, no padding."""
    found = []
    for doc in documents(frame).itertuples():
        found.append([])
        for candidate in doc.candidates:
            ids = torch.tensor(causal.tokenizer(doc.prompt + candidate)["input_ids"])
            asked = len(causal.tokenizer(doc.prompt.rstrip())["input_ids"])
            with torch.no_grad():
                logits = causal.model(ids[None]).logits[0].double().log_softmax(-1)
            found[-1].append(sum(float(logits[i - 1, ids[i]]) for i in range(asked, len(ids))))
    return found


def likelihoods(scorer: HFLM, frame: pd.DataFrame) -> list[list[float]]:
    docs = documents(frame)
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"rows": frame})
    results = lm_eval.evaluate(scorer, manager.load(["coto_ranking"]), bootstrap_iters=0)
    samples = results["samples"]["coto_ranking"]
    assert [sample["doc"]["prompt"] for sample in samples] == list(docs["prompt"])
    return [[value for value, _ in sample["filtered_resps"]] for sample in samples]


@pytest.mark.parametrize("make", [lambda: rows(50), of_words])
def test_likelihoods_are_the_definitions(causal: Causal, make: Callable[[], Any]) -> None:
    frame = make()
    direct = directly(causal, frame)
    assert np.ptp([value for values in direct for value in values]) > 1  # there is what to rank
    with quiet():
        ours = likelihoods(Scorer(causal.model, causal, 400, 1, 0), frame)
        theirs = likelihoods(
            HFLM(causal.model, tokenizer=causal.tokenizer, backend="causal", batch_size=4), frame
        )
    for ours_item, theirs_item, direct_item in zip(ours, theirs, direct, strict=True):
        assert ours_item == pytest.approx(direct_item, abs=1e-4)
        assert theirs_item == pytest.approx(direct_item, abs=1e-4)
    (scores,) = score_rows(causal.model, causal, frame, RANKING)
    best = [choices[int(np.argmax(v))] for choices, v in zip(frame["choices"], direct, strict=True)]
    assert list(scores.items["prediction"]) == best
    right = np.asarray(best) == frame["answer"].to_numpy()
    assert list(scores.items["correct"]) == list(right)
    lengths = [[len(text) for text in texts] for texts in documents(frame)["candidates"]]
    longest = [
        choices[int(np.argmax(np.divide(values, length)))]
        for choices, values, length in zip(frame["choices"], direct, lengths, strict=True)
    ]
    right_norm = np.asarray(longest) == frame["answer"].to_numpy()
    expected = {"accuracy": right.mean(), "accuracy_norm": right_norm.mean()}
    alike = frame["choices"].map(tuple).nunique() == 1
    if alike:
        centred = np.asarray(direct) - np.mean(direct, axis=0)
        expected["accuracy_calibrated"] = np.mean(centred.argmax(1) == documents(frame)["gold"])
    assert scores.metrics == pytest.approx(expected)
    assert scores.headline == "accuracy"
    # Of answers of one length it is the same ranking.
    same_length = all(len(set(length)) == 1 for length in lengths)
    assert (longest == best) == same_length
    assert (scores.task, scores.truncated) == (frame["set"].iloc[0], 0)
    gold = documents(frame)["gold"]
    loss = -np.mean([values[i] for values, i in zip(direct, gold, strict=True)])
    assert scores.loss == pytest.approx(loss, abs=1e-4)
    assert scores.outputs is None


def test_choices_that_differ_in_the_last_token_cost_one_pass(causal: Causal) -> None:
    seen = []
    handle = causal.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        score_rows(causal.model, causal, rows(10), Evaluation(batch_tokens=10_000))
    finally:
        handle.remove()
    beginning, items = seen
    assert beginning[0] == 1
    assert items[0] == 10  # four choices each
    longest = max(map(len, causal.encode(list(documents(rows(10))["prompt"]))))
    assert items[1] < longest  # what all prompts begin with was computed once


@pytest.mark.parametrize("protocol", ["ranking", "generate"])
def test_batches_answer_as_single_items_do(causal: Causal, protocol: str) -> None:
    frame = pd.concat([rows(15), of_words(9)], ignore_index=True)
    alone = Evaluation(protocols=(protocol,), batch_tokens=1, max_new_tokens=12)
    together = Evaluation(protocols=(protocol,), batch_tokens=4000, max_new_tokens=12)
    for one, many in zip(
        score_rows(causal.model, causal, frame, alone),
        score_rows(causal.model, causal, frame, together),
        strict=True,
    ):
        pd.testing.assert_frame_equal(one.items, many.items)
        assert one.metrics == many.metrics


def test_padding_does_not_change_what_beams_write(causal: Causal) -> None:
    """Texts, not only the answers read from them: these are often none at all."""
    prompts = list(documents(rows(6))["prompt"])
    settings = {"num_beams": 4, "max_gen_toks": 10, "until": []}
    requests = [_Request((text, settings)) for text in prompts]
    written = []
    for tokens in (1, 4000):
        scorer = Scorer(causal.model, causal, tokens, 4, 10)
        with quiet():
            written.append(scorer.generate_until(requests))
    assert written[0] == written[1]
    assert len(set(written[0])) > 1
    for prompt, text in zip(prompts, written[0], strict=True):
        ids = torch.tensor([causal.tokenizer(prompt)["input_ids"]])
        output = causal.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            num_beams=4,
            do_sample=False,
            max_new_tokens=10,
            pad_token_id=0,
        )
        assert causal.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True) == text


class _Request:
    def __init__(self, args: tuple[str, dict[str, Any]]) -> None:
        self.args = args


def test_an_adapter_is_scored_and_nothing_random_is_touched(causal: Causal, tmp_path: Path) -> None:
    own = load(save(tmp_path))
    config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(own.model, config)
    before = torch.get_rng_state()
    (scores,) = score_rows(model, own, rows(20), RANKING)
    assert torch.equal(torch.get_rng_state(), before)
    with model.disable_adapter():
        (bare,) = score_rows(model, own, rows(20), RANKING)
    (base,) = score_rows(causal.model, causal, rows(20), RANKING)
    pd.testing.assert_frame_equal(bare.items, base.items)
    assert list(scores.items["prediction"]) != list(base.items["prediction"])


def test_two_protocols_give_two_scores_and_the_first_is_quoted(causal: Causal) -> None:
    evaluation = Evaluation(protocols=("generate", "ranking"), batch_tokens=4000, max_new_tokens=4)
    (scores,) = score_rows(causal.model, causal, rows(6), evaluation)
    ranked = ["accuracy", "accuracy_norm", "accuracy_calibrated"]
    assert list(scores.metrics) == ["generated", *ranked]
    assert scores.headline == "generated"
    by_protocol = scores.items.groupby("protocol")["correct"].mean()
    assert by_protocol["generate"] == scores.metrics["generated"]
    assert by_protocol["ranking"] == scores.metrics["accuracy"]
    with pytest.raises(ValidationError, match="should be 'ranking' or 'generate'"):
        Evaluation(protocols=("guess",))


def test_sets_are_scored_apart_and_one_answer_to_all_is_flagged(causal: Causal) -> None:
    same = rows(8, name="arc_easy").assign(instruction="the dog")
    words = of_words(20)
    places = [int(np.argmax(values)) for values in directly(causal, words)]
    alike = words[[place == places[0] for place in places]]
    assert 1 < len(alike) < 20
    first, second, third, fourth = score_rows(
        causal.model,
        causal,
        pd.concat([rows(8), same, words, alike.assign(set="next-sentence")], ignore_index=True),
        RANKING,
    )
    # Of answers in words of their own, it is the place that must not always be the same.
    assert (third.collapsed, fourth.collapsed) == (False, True)
    assert (first.task, first.collapsed) == ("openbookqa", False)
    assert (second.task, second.collapsed) == ("arc_easy", True)
    assert second.metrics["accuracy"] == 0.25


def test_prompts_too_long_for_the_model_are_counted(causal: Causal) -> None:
    frame = rows(8)
    frame.loc[[2, 5], "instruction"] = "zq " * 300
    for protocol in ("ranking", "generate"):
        evaluation = Evaluation(protocols=(protocol,), batch_tokens=400, max_new_tokens=4)
        (scores,) = score_rows(causal.model, causal, frame, evaluation)
        assert scores.truncated == 2
        assert list(scores.items.index[scores.items["truncated"]]) == [2, 5]


def test_a_diverged_model_is_an_error(tmp_path: Path) -> None:
    own = load(save(tmp_path))
    own.model.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(CotoError, match="80 of 80 log-likelihoods are not finite"):
        score_rows(own.model, own, rows(20), RANKING)


@pytest.mark.parametrize(
    ("answers", "text", "read"),
    [
        (["true", "false"], "the correct answer is false, not true", "false"),
        (["solution1", "solution2"], "solution2", "solution2"),
        (["answer1", "answer2", "answer3"], "answer5 or answer1", "answer5"),
        (["ending1", "ending4"], "I think ending3ending1", "ending3"),
        (["option1", "option2"], "Option1? option2", "option2"),
        (["yes", "no"], "yes", "yes"),
        (["answer1", "answer2"], "none of them", ""),
        (["walk", "walking"], "walking a walk", "walking"),
        (["art", "cart"], "a cart, art", "cart"),
    ],
)
def test_answers_are_read_as_llm_adapters_reads_them(
    answers: list[str], text: str, read: str
) -> None:
    task = reading._generation_task(set(answers))
    frame = rows(1).assign(choices=[answers], answer=answers[0])
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"rows": frame})
    with quiet():
        results = lm_eval.evaluate(_Says(text), manager.load([task]), bootstrap_iters=0)
    (sample,) = results["samples"][task]
    assert reading._answer(task, sample) == read
    found = {key.partition(",")[0]: value for key, value in results["results"][task].items()}
    assert found["exact_match"] == (read == answers[0])


class _Says(lm_eval.api.model.LM):
    """A model that always writes the same text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def generate_until(self, requests: list[Any]) -> list[str]:
        return [self._text for _ in requests]

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("text", "ours", "original"),
    [
        ("48/2 = 24 clips.\n#### 1,080", "1080", "1"),
        ("It costs $12.50 now.\nThe answer is: $1,234.50", "1234.5", ""),
        ("#### 18\nThe answer is: 18", "18", "18"),
        ("so 5 - 8 is\n#### -3.", "-3", ""),
        ("#### 70000", "70000", "70000"),
        ("first 3, then 44.", "44", ""),
        ("no idea", "", ""),
    ],
)
def test_numbers_are_read_whole_and_as_the_original_reads_them(
    text: str, ours: str, original: str
) -> None:
    assert (number(text), original_number(text)) == (ours, original)


def test_worked_solutions_are_scored_by_both_readings() -> None:
    frame = pd.DataFrame(
        {"set": "gsm8k", "instruction": "How many?", "choices": [[]], "answer": "2\n#### 1,080"}
    ).assign(idx=0)
    for said, expected in {
        "#### 1,080": (1.0, 1.0),
        "#### 1080": (1.0, 0.0),
        "#### 1,999": (0.0, 1.0),
        "1080": (1.0, 0.0),
        "": (0.0, 0.0),
    }.items():
        manager = TaskManager(
            include_path=str(TASKS), include_defaults=False, metadata={"rows": frame}
        )
        with quiet():
            results = lm_eval.evaluate(_Says(said), manager.load(["coto_math"]), bootstrap_iters=0)
        found = results["results"]["coto_math"]
        assert (found["generated,none"], found["original,none"]) == expected


def test_a_solution_is_generated_whatever_the_protocols(causal: Causal) -> None:
    frame = rows(3, name="gsm8k").assign(choices=[[]] * 3, answer="#### 7")
    (scores,) = score_rows(causal.model, causal, frame, RANKING)
    assert list(scores.metrics) == ["generated", "original"]
    assert list(scores.items["answer"]) == ["7"] * 3


def test_first_named_prefers_the_earliest_whole_word() -> None:
    assert first_named(["c++", "c"], "use c++ or c") == "c++"
    assert first_named(["a", "b"], "ab ba") == ""


def test_lm_eval_s_own_tasks_run_on_a_mirror(causal: Causal, tmp_path: Path) -> None:
    folder = tmp_path / "allenai" / "openbookqa"
    folder.mkdir(parents=True)
    docs = [
        {
            "id": str(i),
            "question_stem": f"the dog {i}",
            "choices": {"text": ["runs", "walks", "home", "red"], "label": list("ABCD")},
            "answerKey": "ABCD"[i % 4],
        }
        for i in range(8)
    ]
    (folder / "test.json").write_text("\n".join(map(json.dumps, docs)))
    splits = ("train", "validation", "test")
    files = "".join(f"  - split: {split}\n    path: test.json\n" for split in splits)
    readme = f"---\nconfigs:\n- config_name: main\n  data_files:\n{files}---\n"
    (folder / "README.md").write_text(readme)
    check_standard(["openbookqa"], str(tmp_path))
    (scores,) = score_standard(causal.model, causal, ["openbookqa"], 400, str(tmp_path))
    assert (scores.task, len(scores.items)) == ("openbookqa", 8)
    assert scores.metrics["acc"] == scores.items["correct"].mean()
    assert "acc_norm" in scores.metrics
    with pytest.raises(CotoError, match=r"standard = 'piqa': no data at .*baber/piqa"):
        check_standard(["openbookqa", "piqa"], str(tmp_path))
    with pytest.raises(CotoError, match="standard = 'arc': expected some of boolq"):
        check_standard(["arc"], None)
    installed = Path(lm_eval.__file__).parent / "tasks"
    assert all((installed / file).is_file() for file in STANDARD.values())
