"""The loss on the choice among candidate answers of one token each."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainingArguments

from coto.errors import CotoError
from coto.models.batches import GroupedTrainer
from tests.models.small_causal import rows, save, single_tokens
from tests.models.test_language_model import TASK, language_model, whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


def questions(made, count: int = 12) -> pd.DataFrame:
    """Questions of several lengths, with two or three of the words that are one token each."""
    single = single_tokens(made._causal, 3)
    frame = rows(count, name="word-choice")
    frame["instruction"] += ":"
    frame["choices"] = [single[: 2 + i % 2] for i in range(count)]
    frame["answer"] = [choices[i // 2 % len(choices)] for i, choices in enumerate(frame["choices"])]
    return frame


def by_definition(made, frame: pd.DataFrame) -> float:
    """Mean cross-entropy of the candidates' logits, item by item, from whole rows of logits."""
    tokenizer, total = made._causal.tokenizer, 0.0
    for row in frame.itertuples():
        ids = torch.tensor([tokenizer(row.instruction)["input_ids"]])
        tokens = [tokenizer(f"{row.instruction} {one}")["input_ids"][-1] for one in row.choices]
        with torch.no_grad():
            logits = made.model(ids).logits[0, -1, tokens]
        total -= float(logits.log_softmax(-1)[list(row.choices).index(row.answer)])
    return total / len(frame)


@pytest.mark.parametrize("layout", ["shuffled", "length"])
def test_loss_is_the_choice_among_each_item_s_own_candidates(folder: Path, layout: str) -> None:
    made = language_model(folder, loss_on="candidates", layout=layout)
    frame = questions(made)
    data = made.training_set(TASK, frame)
    assert data.grouped == (layout == "length")
    batch = whole(data)
    assert batch["candidates"].shape == (12, 3)
    assert len(set(data.dataset["length"])) > 1
    made.model.eval()
    assert made.model(**batch).loss.item() == pytest.approx(by_definition(made, frame), abs=1e-5)
    # Parts of a batch, as the Trainer gives them, add up to it.
    parts = [data.collate([data.dataset[i] for i in part]) for part in (range(5), range(5, 12))]
    counts = sum(int((part["labels"][..., 1:] != -100).sum()) for part in parts)
    assert counts == 12
    losses = [made.model(**part, num_items_in_batch=counts).loss.item() for part in parts]
    assert sum(losses) == pytest.approx(by_definition(made, frame), abs=1e-5)


def test_other_batches_and_logits_are_as_before(folder: Path) -> None:
    made, plain = language_model(folder, loss_on="candidates"), language_model(folder)
    ids = torch.arange(10, 24)[None]
    with torch.no_grad():
        made.model(**whole(made.training_set(TASK, questions(made))))
        assert torch.equal(made.model(input_ids=ids).logits, plain.model(input_ids=ids).logits)


def test_gradients_are_those_of_the_definition(folder: Path) -> None:
    made = language_model(folder, loss_on="candidates")
    batch = whole(made.training_set(TASK, questions(made)))
    weight = made.model.model.layers[0].self_attn.q_proj.weight
    made.model(**batch).loss.backward()
    found, weight.grad = weight.grad, None
    ends = batch["attention_mask"].sum(1) - 1
    ids, mask = batch["input_ids"], batch["attention_mask"]
    logits = made.model(input_ids=ids, attention_mask=mask).logits[torch.arange(12), ends]
    known = batch["candidates"] != -100
    chosen = logits.gather(1, batch["candidates"].clamp(min=0)).masked_fill(~known, -1e30)
    torch.nn.functional.cross_entropy(chosen, batch["labels"][:, 1]).backward()
    torch.testing.assert_close(found, weight.grad, rtol=1e-4, atol=1e-6)


def test_the_trainer_teaches_the_choice(folder: Path, tmp_path: Path) -> None:
    made = language_model(folder, loss_on="candidates", layout="shuffled")
    frame = questions(made, 8)
    frame["answer"] = frame["choices"].map(lambda choices: choices[1])
    data = made.training_set(TASK, frame)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(made.model, config)
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=30,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=0.02,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
    )
    trainer = GroupedTrainer(
        model, arguments, data_collator=data.collate, train_dataset=data.dataset
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    # Of all eight items, as the definition has it: the Trainer must not count other labels.
    first = by_definition(language_model(folder), frame)
    assert losses[0] == pytest.approx(first, rel=1e-3)
    assert losses[-1] < 0.1
    (scores,) = made.score(model, TASK, frame)
    assert scores.metrics["accuracy"] == 1.0
    assert "accuracy_norm" not in scores.metrics  # answers of one token have one length


def test_answers_of_several_tokens_are_refused(folder: Path) -> None:
    made = language_model(folder, loss_on="candidates")
    several = r"loss_on = 'candidates': openbookqa, item 0: answer 'answer1' has \d+ tokens"
    with pytest.raises(CotoError, match=several + ", expected answers of one token"):
        made.training_set(TASK, rows())
    none = rows(name="gsm8k").assign(choices=None, answer="#### 7")
    with pytest.raises(CotoError, match=r"gsm8k, item 0: answer = '#### 7': expected one of its"):
        made.training_set(TASK, none)


def test_questions_that_would_be_cut_are_left_out_and_counted(folder: Path) -> None:
    made = language_model(folder, loss_on="candidates")
    frame = questions(made)
    lengths = sorted(made.training_set(TASK, frame).dataset["length"])
    limit = lengths[-1] - 1
    longer = sum(length > limit for length in lengths)
    data = language_model(folder, limit, loss_on="candidates").training_set(TASK, frame)
    assert (data.rows, data.truncated, data.summary["dropped"]) == (12 - longer, longer, longer)
    with pytest.raises(CotoError, match="max_length = 2: none of 12 answers is within it"):
        language_model(folder, 2, loss_on="candidates").training_set(TASK, frame)
