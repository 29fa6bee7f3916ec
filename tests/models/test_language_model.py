from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainingArguments

from coto.device import Compute
from coto.errors import CotoError
from coto.models.batches import GroupedTrainer
from coto.models.causal.model import LanguageModel
from coto.models.settings import Loading, TaskEvaluation, Training
from coto.tasks.language import prompt, target
from coto.tasks.task import Task
from tests.models.small_causal import backbone, rows, save

TASK = Task(name="questions", family="choice", summary="Which?", source="made", code="")
CPU = Compute(torch.device("cpu"))
EOS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


def language_model(
    folder: Path, max_length: int = 256, cache: Path | None = None, **train: Any
) -> LanguageModel:
    loading = Loading(
        backbone=backbone(folder),
        train=Training(**train),
        evaluation=TaskEvaluation(batch_tokens=512, max_lengths={TASK.name: max_length}),
    )
    return LanguageModel(loading, CPU, 0, cache)


def whole(data: Any) -> dict[str, torch.Tensor]:
    return data.collate([data.dataset[i] for i in range(len(data.dataset))])


def mean_loss(model: torch.nn.Module, items: Any, answers_only: bool) -> float:
    """Mean over tokens, item by item without padding, from the definition."""
    total, count = 0.0, 0
    for item in items:
        ids = torch.tensor([item["input_ids"]])
        with torch.no_grad():
            found = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        wanted = torch.tensor(item["labels"])[1:] != -100 if answers_only else slice(None)
        total -= float(found[wanted].sum())
        count += found[wanted].numel()
    return total / count


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_loss_is_on_the_answer_and_its_end_or_on_everything(folder: Path, loss_on: str) -> None:
    made = language_model(folder, loss_on=loss_on)
    frame = rows()
    data = made.training_set(TASK, frame)
    tokenizer = made._causal.tokenizer
    for row, item in zip(frame.itertuples(), data.dataset, strict=True):
        said = target(row.answer, row.set)
        text = tokenizer.decode(item["input_ids"][1:-1])
        assert text == prompt(row.instruction, row.set) + said
        assert (item["input_ids"][0], item["input_ids"][-1]) == (1, EOS)
        told = [token for token in item["labels"] if token != -100]
        if loss_on == "answer":
            assert tokenizer.decode(told[:-1]).strip() == said
            assert told[-1] == EOS
        else:
            assert told == item["input_ids"]
    batch = whole(data)
    assert len(set(data.dataset["length"])) > 1  # or padding would not be tried
    made.model.eval()
    direct = mean_loss(made.model, data.dataset, loss_on == "answer")
    assert made.model(**batch).loss.item() == pytest.approx(direct, abs=1e-5)


def test_padding_is_told_by_length_whatever_token_it_is(folder: Path) -> None:
    made = language_model(folder, loss_on="all")
    data = made.training_set(TASK, rows())
    batch = whole(data)
    assert batch["attention_mask"].sum(1).tolist() == data.dataset["length"]
    made.model.eval()
    loss = made.model(**batch).loss
    # EOS in padded places, and not a label of EOS is lost.
    batch["input_ids"][batch["attention_mask"] == 0] = EOS
    assert torch.equal(made.model(**batch).loss, loss)
    assert int((batch["labels"] == EOS).sum()) == len(data.dataset)


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_packed_items_do_not_see_each_other(folder: Path, loss_on: str) -> None:
    apart = language_model(folder, loss_on=loss_on)
    packed = language_model(folder, loss_on=loss_on, layout="packed")
    frame = rows(20)
    data = packed.training_set(TASK, frame)
    items = apart.training_set(TASK, frame)
    assert data.rows == len(data.dataset) < 20 == data.summary["items"]
    assert not data.grouped
    assert max(data.dataset["length"]) <= 256
    # Labels of an item's first token are left out in both: nothing predicts it.
    apart.model.eval()
    packed.model.eval()
    with torch.no_grad():
        direct = mean_loss(apart.model, items.dataset, loss_on == "answer")
        loss = float(packed.model(**whole(data)).loss)
    assert loss == pytest.approx(direct, abs=1e-5)


def test_a_model_that_mixes_packed_items_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = language_model(folder, layout="packed")
    forward = made.model.forward
    monkeypatch.setattr(
        made.model, "forward", lambda position_ids=None, **inputs: forward(**inputs)
    )
    with pytest.raises(CotoError, match="see each other"):
        made.training_set(TASK, rows())


def test_what_is_cut_is_counted_and_lost_answers_are_dropped(folder: Path) -> None:
    lengths = sorted(language_model(folder).training_set(TASK, rows()).dataset["length"])
    limit = lengths[-1] - 2  # the longest loses its end, EOS and the answer's last word
    data = language_model(folder, limit).training_set(TASK, rows())
    fit = sum(length - 1 <= limit for length in lengths)  # EOS is added where there is room
    assert (data.truncated, data.rows) == (12 - fit, 12)
    assert max(data.dataset["length"]) == limit

    frame = rows()
    frame.loc[3, "instruction"] = "zq " * 300
    everything = language_model(folder, loss_on="all").training_set(TASK, frame)
    answers = language_model(folder, loss_on="answer").training_set(TASK, frame)
    assert (everything.rows, everything.truncated, everything.summary["dropped"]) == (12, 1, 0)
    assert (answers.rows, answers.truncated, answers.summary["dropped"]) == (11, 1, 1)
    with pytest.raises(CotoError, match="max_length = 4: none of 12 answers"):
        language_model(folder, 4).training_set(TASK, frame)


def test_tokens_come_from_the_cache_only_if_nothing_changed(folder: Path, tmp_path: Path) -> None:
    first = language_model(folder, cache=tmp_path).training_set(TASK, rows())
    (file,) = (tmp_path / "tokens").iterdir()
    written = file.stat().st_mtime_ns
    again = language_model(folder, cache=tmp_path).training_set(TASK, rows())
    assert file.stat().st_mtime_ns == written
    assert again.dataset.to_list() == first.dataset.to_list()
    assert (again.truncated, again.rows) == (first.truncated, first.rows)
    other = rows()
    other.loc[0, "instruction"] = "another question"
    language_model(folder, cache=tmp_path).training_set(TASK, other)
    language_model(folder, cache=tmp_path, loss_on="all").training_set(TASK, rows())
    language_model(folder, 99, cache=tmp_path).training_set(TASK, rows())
    without = save(tmp_path / "model", bos=False)
    language_model(without, cache=tmp_path).training_set(TASK, rows())
    assert len(list((tmp_path / "tokens").iterdir())) == 5


def test_the_trainer_teaches_the_answers(folder: Path, tmp_path: Path) -> None:
    made = language_model(folder, loss_on="answer", layout="length")
    frame = rows(8)
    frame["answer"] = "answer3"
    data = made.training_set(TASK, frame)
    torch.manual_seed(0)
    model = get_peft_model(
        made.model,
        LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"),
    )
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=25,
        per_device_train_batch_size=4,
        learning_rate=0.02,
        train_sampling_strategy="group_by_length" if data.grouped else "random",
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = GroupedTrainer(
        model, arguments, data_collator=data.collate, train_dataset=data.dataset
    )
    trainer.train()
    (scores,) = made.score(model, TASK, frame)
    assert {scores.metrics[name] for name in ("accuracy", "accuracy_norm")} == {1.0}
    assert not model.training
    assert (scores.collapsed, scores.headline, scores.truncated) == (True, "accuracy", 0)


def test_malformed_items_are_named(folder: Path) -> None:
    made = language_model(folder)
    frame = rows()
    frame.loc[5, "answer"] = "answer9"
    with pytest.raises(CotoError, match="openbookqa, item 5: answer = 'answer9'"):
        made.score(made.model, TASK, frame)
    frame = pd.concat([rows(), rows().assign(instruction=" ")])
    with pytest.raises(CotoError, match="openbookqa, item 0: instruction is empty"):
        made.score(made.model, TASK, frame)


def test_features_are_what_the_answers_first_token_is_predicted_from(folder: Path) -> None:
    model = language_model(folder)
    asked = rows(7)
    features = torch.from_numpy(model.features(TASK, asked))
    causal = model._causal
    with torch.inference_mode():
        for text, read in zip(asked["instruction"], features, strict=True):
            (ids,) = causal.encode([prompt(text).rstrip()])
            logits = causal.model(input_ids=torch.tensor([ids])).logits[0, -1]
            ours = causal.model.get_output_embeddings()(read)
            assert torch.allclose(ours, logits, atol=1e-5)
