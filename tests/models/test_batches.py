"""The order of training items: that of the Trainer where nothing else draws, and always its own."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from coto.models.batches import GroupedTrainer, LengthGroupedSampler

ROWS, BATCH = 45, 8
LENGTHS = [random.Random(i).randint(3, 20) for i in range(ROWS)]
DATA = Dataset.from_list([{"item": i, "length": n} for i, n in enumerate(LENGTHS)])


class Recorder(torch.nn.Module):
    """A model that writes down what it is trained on, and draws random numbers if told so."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.linear, self.dropout = torch.nn.Linear(1, 1), torch.nn.Dropout(dropout)
        self.seen: list[int] = []

    def forward(self, item: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen += item.tolist()
        return {"loss": self.linear(self.dropout(item[:, None].float())).square().mean()}


def order(
    kind: type[Trainer],
    folder: Path,
    dropout: float = 0.0,
    seed: int = 3,
    accumulation: int = 1,
    steps: int = 18,
    **more: Any,
) -> list[int]:
    """Items in the order of a training of three passes."""
    resume = more.pop("resume", None)
    arguments = TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH // accumulation,
        gradient_accumulation_steps=accumulation,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,  # the own sampler of the Trainer would not see the lengths
        seed=seed,
        data_seed=seed,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_steps=1000,
        **{"save_strategy": "no", **more},
    )
    model = Recorder(dropout)
    trainer = kind(
        model,
        arguments,
        train_dataset=DATA,
        data_collator=lambda items: {"item": torch.tensor([item["item"] for item in items])},
    )
    trainer.train(resume_from_checkpoint=resume)
    return model.seen


@pytest.mark.parametrize(("seed", "accumulation"), [(0, 1), (3, 2), (7, 1)])
def test_the_order_is_the_trainers_own_where_nothing_else_draws(tmp_path, seed, accumulation):
    arguments = {"seed": seed, "accumulation": accumulation}
    ours = order(GroupedTrainer, tmp_path, **arguments)
    assert ours == order(Trainer, tmp_path, **arguments)
    passes = [ours[i : i + ROWS] for i in range(0, 3 * ROWS, ROWS)]
    assert [sorted(items) for items in passes] == [list(range(ROWS))] * 3
    assert passes[0] != passes[1] != passes[2]


def test_dropout_does_not_move_the_order(tmp_path):
    plain = order(GroupedTrainer, tmp_path)
    assert order(GroupedTrainer, tmp_path, dropout=0.5) == plain
    # The Trainer's own sampler parts from it after the first pass.
    theirs = order(Trainer, tmp_path, dropout=0.5)
    assert theirs[:ROWS] == plain[:ROWS]
    assert theirs[ROWS:] != plain[ROWS:]


@pytest.mark.parametrize("stop", [4, 6, 8, 15])
def test_a_resumed_training_goes_on_in_the_same_order(tmp_path, stop):
    # Six steps a pass: in the middle of each one, and at the end of the first.
    whole = order(GroupedTrainer, tmp_path / "whole")
    saved = {"save_strategy": "steps", "save_steps": stop}
    begun = order(GroupedTrainer, tmp_path / "broken", steps=stop, **saved)
    checkpoint = str(tmp_path / "broken" / f"checkpoint-{stop}")
    rest = order(GroupedTrainer, tmp_path / "broken", resume=checkpoint)
    assert begun + rest == whole


def test_the_order_follows_from_seed_and_pass_alone():
    sampler = LengthGroupedSampler(LENGTHS, BATCH, seed=1)
    first = list(sampler)
    sampler.set_epoch(2)
    third = list(sampler)
    torch.seed()
    again = LengthGroupedSampler(LENGTHS, BATCH, seed=1)
    again.set_epoch(2)
    assert (list(again), len(again)) == (third, ROWS)
    again.set_epoch(0)
    assert list(again) == first != third
    assert list(LengthGroupedSampler(LENGTHS, BATCH, seed=2)) != first
    assert LENGTHS[first[0]] == max(LENGTHS)  # the longest batch comes first
