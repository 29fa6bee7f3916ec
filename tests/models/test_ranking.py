"""Candidate answers ranked with all that weights do not change made once: as lm-eval, for less."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lm_eval
import numpy as np
import pandas as pd
import pytest
import torch
from lm_eval.tasks import TaskManager

from coto.errors import CotoError
from coto.models.batches import token_batches
from coto.models.causal.answers import TASKS, Questions, documents, score_rows
from coto.models.causal.harness import Scorer, quiet
from coto.models.causal.likelihoods import Likelihoods
from coto.models.causal.loading import Causal
from coto.models.causal.ranking import calibrated
from coto.models.settings import Evaluation
from tests.models.small_causal import load, rows, save, single_tokens

RANKING = Evaluation(batch_tokens=400)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Causal:
    return load(save(tmp_path_factory.mktemp("model")))


def yes_or_no(causal: Causal, count: int = 40) -> pd.DataFrame:
    """Questions of several lengths whose answers are one token each."""
    frame = rows(count, name="nice-word")
    words = single_tokens(causal, 2)
    frame["choices"] = [words] * count
    frame["answer"] = [words[i * i % 3 % 2] for i in range(count)]
    frame["instruction"] += ":"
    return frame


def sentences(count: int = 30) -> pd.DataFrame:
    """Questions with answers of their own, of several tokens and lengths."""
    frame = rows(count, name="word-choice", choices=3)
    frame["choices"] = [["the dog", "a very long walk", f"why {i}"] for i in range(count)]
    frame["answer"] = [choices[i % 3] for i, choices in enumerate(frame["choices"])]
    return frame


def by_lm_eval(causal: Causal, frame: pd.DataFrame) -> tuple[list[list[float]], dict[str, float]]:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"rows": frame})
    with quiet():
        scorer = Scorer(causal.model, causal, RANKING.batch_tokens, 1, 0)
        found = lm_eval.evaluate(scorer, manager.load(["coto_ranking"]), bootstrap_iters=0)
    samples = sorted(found["samples"]["coto_ranking"], key=lambda sample: sample["doc_id"])
    metrics = {k.partition(",")[0]: v for k, v in found["results"]["coto_ranking"].items()}
    return [[value for value, _ in sample["filtered_resps"]] for sample in samples], metrics


@contextmanager
def counted(causal: Causal) -> Iterator[Counter[str]]:
    """Counts forward passes, tokens and logits of the language model."""
    seen: Counter[str] = Counter()

    def note(module, args, kwargs, output) -> None:
        seen["passes"] += 1
        seen["tokens"] += kwargs["input_ids"].numel()
        seen["logits"] += output.logits.shape[0] * output.logits.shape[1]

    handle = causal.model.register_forward_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("make", [yes_or_no, lambda _: rows(), lambda _: sentences()])
def test_likelihoods_and_metrics_are_lm_eval_s_own(causal: Causal, make) -> None:
    frame = make(causal)
    asked = Questions(causal, str(frame["set"][0]), frame, RANKING, kv_cache=True)
    metrics, values = asked._ranking.score(causal.model)
    theirs, reported = by_lm_eval(causal, frame)
    assert values == theirs  # bit for bit
    assert metrics["accuracy"] == reported["acc"]
    if "accuracy_norm" in metrics:
        assert metrics["accuracy_norm"] == reported["acc_norm"]
    (scores,) = score_rows(causal.model, causal, frame, RANKING)
    assert scores.metrics == metrics


def test_an_item_costs_one_pass_over_its_prompt_and_one_row_of_logits(causal: Causal) -> None:
    frame = yes_or_no(causal)
    single = Questions(causal, "nice-word", frame, RANKING, kv_cache=False)
    with counted(causal) as seen:
        single.score(causal.model)
    prompts = causal.encode(list(documents(frame)["prompt"]))
    assert seen["logits"] == len(frame)
    # Batches of neighbours in length, which hold each prompt once.
    batches = token_batches(sorted(prompts, key=len), len, RANKING.batch_tokens)
    sizes = [len(batch) * max(map(len, batch)) for batch in batches]
    assert (seen["passes"], seen["tokens"]) == (len(sizes), sum(sizes))


def test_a_prompt_is_computed_once_for_all_its_longer_answers(causal: Causal) -> None:
    frame = sentences()
    docs = documents(frame)
    assert causal.forks
    with counted(causal) as seen:
        (together,) = score_rows(causal.model, causal, frame, RANKING, kv_cache=False)
    needed = 0
    for doc in docs.itertuples():
        whole, ends = causal.encode_pairs([doc.prompt] * 3, doc.candidates)
        needed += ends[0] + sum(len(ids) - end - 1 for ids, end in zip(whole, ends, strict=True))
    assert needed <= seen["tokens"] <= 1.15 * needed
    # The same, each answer in a sequence of its own.
    alone = load_without_forks(causal)
    with counted(alone) as more:
        (apart,) = score_rows(alone.model, alone, frame, RANKING, kv_cache=False)
    assert more["tokens"] > 1.5 * seen["tokens"]
    assert together.metrics == apart.metrics
    assert together.loss == pytest.approx(apart.loss, abs=1e-5)


def load_without_forks(causal: Causal) -> Causal:
    other = Causal(causal.model, causal.tokenizer)
    vars(other)["forks"] = False
    return other


@pytest.mark.parametrize("kv_cache", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 90, 4000])
def test_forked_answers_are_blind_to_each_other(
    causal: Causal, kv_cache: bool, batch_tokens: int
) -> None:
    encode = causal.encode
    prompts = encode(["the dog runs home and home " + "why? " * i for i in range(5)])
    answers = [encode([text])[0][1:] for text in ("red dog", "a very long walk", "7", "red walk")]
    pairs = [(prompt, answer) for prompt in prompts for answer in answers]
    found = Likelihoods(causal, pairs, batch_tokens, kv_cache).compute(causal.model)
    for (prompt, answer), (value, greedy) in zip(pairs, found, strict=True):
        with torch.no_grad():
            logits = causal.model(torch.tensor([[*prompt, *answer]])).logits[0].double()
        at = logits[len(prompt) - 1 : -1].log_softmax(-1)
        expected = sum(float(at[i, token]) for i, token in enumerate(answer))
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == (at.argmax(-1).tolist() == list(answer))


def test_a_model_that_ignores_such_masks_is_not_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = load(save(tmp_path))
    forward = own.model.forward
    monkeypatch.setattr(
        own.model, "forward", lambda attention_mask=None, **inputs: forward(**inputs)
    )
    assert not own.forks
    windowed = load(save(tmp_path / "other"))
    windowed.model.config.sliding_window = 16
    assert not windowed.forks


def test_an_answer_longer_than_the_model_reads_is_an_error(causal: Causal) -> None:
    with pytest.raises(CotoError, match="a candidate answer has 300 tokens, expected at most 256"):
        Likelihoods(causal, [([5, 6], [7] * 300)], 100)


def test_calibrated_accuracy_is_that_of_centred_likelihoods() -> None:
    rng = np.random.default_rng(0)
    gold = np.arange(60) % 3
    values = rng.normal(size=(60, 3)) + 2.0 * np.eye(3)[gold]
    plain = float(np.mean(values.argmax(1) == gold))
    assert plain > 0.7
    biased = values + np.array([9.0, 0.0, -4.0])
    assert float(np.mean(biased.argmax(1) == gold)) == pytest.approx(1 / 3, abs=0.05)
    centred = np.empty_like(biased)
    for column in range(3):
        centred[:, column] = biased[:, column] - sum(biased[:, column]) / 60
    expected = float(np.mean([row.argmax() == right for row, right in zip(centred, gold)]))  # noqa: B905
    assert calibrated(biased.tolist(), gold.tolist()) == expected == calibrated(values, gold)
    assert expected > 0.7


def test_only_the_same_answers_throughout_are_calibrated(causal: Causal) -> None:
    (own,) = score_rows(causal.model, causal, sentences(), RANKING)
    assert set(own.metrics) == {"accuracy", "accuracy_norm"}
    (short,) = score_rows(causal.model, causal, yes_or_no(causal), RANKING)
    assert set(short.metrics) == {"accuracy", "accuracy_calibrated"}
    (same,) = score_rows(causal.model, causal, rows(), RANKING)
    assert set(same.metrics) == {"accuracy", "accuracy_norm", "accuracy_calibrated"}


def test_scoring_again_makes_no_request_anew(
    causal: Causal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Questions(causal, "nice-word", yes_or_no(causal), RANKING, kv_cache=True)
    first = asked.score(causal.model)
    monkeypatch.setattr(Causal, "encode", lambda *_: pytest.fail("texts are tokens already"))
    monkeypatch.setattr(TaskManager, "load", lambda *_: pytest.fail("the task is loaded already"))
    again = asked.score(causal.model)
    assert (again.metrics, again.loss) == (first.metrics, first.loss)
    pd.testing.assert_frame_equal(again.items, first.items)
