"""Gradient norms per block against the parameters' own ``.grad``."""

import pytest
import torch
from lora_bert import QUERY_VALUE, bert
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from coto import CoToCallback
from coto.method.gradients import GradientNorms
from coto.method.strategies import make_strategy
from tools.tiny import LAYERS, tiny_batch

STEPS, POINTS = 12, 5  # bins of 3, 2, 3, 2, 2 updates


class ByHand(TrainerCallback):
    """Norms of every update by layer, None where the layer has no gradient."""

    def __init__(self):
        self.norms = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        squares = {}
        for name, parameter in model.named_parameters():
            if "lora_" in name and parameter.grad is not None:
                layer = int(name.split("layer.")[1].split(".")[0])
                square = float(parameter.grad.double().square().sum())
                squares[layer] = squares.get(layer, 0.0) + square
        self.norms.append([squares[n] ** 0.5 if n in squares else None for n in range(LAYERS)])

    def rows(self):
        found = []
        for point in range(POINTS):
            steps = [s for s in range(STEPS) if int(s / STEPS * POINTS) == point]
            for layer in range(LAYERS):
                active = [n for s in steps if (n := self.norms[s][layer]) is not None]
                found.append(
                    {
                        "stack": "bert.encoder.layer",
                        "layer": layer,
                        "share": pytest.approx((point + 0.5) / POINTS),
                        "norm": pytest.approx(sum(active) / len(steps), rel=1e-5),
                        "norm_active": pytest.approx(sum(active) / max(1, len(active)), rel=1e-5),
                        "steps_active": len(active),
                        "steps": len(steps),
                    }
                )
        return found


class StopAt(TrainerCallback):
    """Ends the training by an exception, between backward pass and update."""

    def __init__(self, step):
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise InterruptedError


def train(folder, *callbacks, resume=None, **arguments):
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "save_steps": 4,
        "report_to": [],
        "use_cpu": True,
        "logging_steps": 1000,
        "disable_tqdm": True,
    }
    batch = tiny_batch("bert", size=48)
    rows = [{key: value[index] for key, value in batch.items()} for index in range(48)]
    trainer = Trainer(
        bert(),
        TrainingArguments(str(folder), **(settings | arguments)),
        train_dataset=rows,
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)


@pytest.mark.parametrize("strategy", ["vanilla", "coto"])
@pytest.mark.parametrize(
    "arguments", [{}, {"gradient_accumulation_steps": 2}, {"max_grad_norm": 0.0}]
)
def test_norms_are_those_of_the_parameters_gradients(tmp_path, strategy, arguments):
    norms, by_hand = GradientNorms(POINTS), ByHand()
    train(tmp_path, CoToCallback(strategy), norms, by_hand, save_strategy="no", **arguments)
    assert norms.rows() == by_hand.rows()
    assert all(row["norm"] > 0 for row in norms.rows() if row["steps_active"])


def test_a_block_is_active_in_the_updates_that_the_strategy_draws(tmp_path):
    norms = GradientNorms(STEPS)
    train(tmp_path, CoToCallback(seed=7), norms, save_strategy="no")
    drawn = [make_strategy("coto").flags(7, step, STEPS, LAYERS) for step in range(STEPS)]
    assert [row["steps_active"] for row in norms.rows()] == [int(f) for d in drawn for f in d]
    assert {row["steps"] for row in norms.rows()} == {1}
    skipped = [row for row in norms.rows() if not row["steps_active"]]
    assert skipped
    assert {(row["norm"], row["norm_active"]) for row in skipped} == {(0.0, 0.0)}


def test_norms_are_taken_after_clipping(tmp_path):
    norms = GradientNorms(STEPS)
    train(tmp_path, norms, max_grad_norm=1e-3, save_strategy="no")
    for point in {row["share"] for row in norms.rows()}:
        squares = [row["norm"] ** 2 for row in norms.rows() if row["share"] == point]
        assert 0 < sum(squares) <= 1.001e-6


def test_recording_does_not_change_the_training(tmp_path):
    by_hand = [ByHand(), ByHand()]
    train(tmp_path, by_hand[0], save_strategy="no")
    train(tmp_path, GradientNorms(POINTS), by_hand[1], save_strategy="no")
    assert by_hand[0].norms == by_hand[1].norms


@pytest.mark.parametrize("stop", [5, 10])
def test_a_resumed_training_gives_the_same_numbers_to_the_last_bit(tmp_path, stop):
    whole, broken, resumed = (GradientNorms(POINTS) for _ in range(3))
    train(tmp_path / "whole", CoToCallback(), whole)
    with pytest.raises(InterruptedError):
        train(tmp_path / "broken", CoToCallback(), broken, StopAt(stop))
    checkpoint = tmp_path / "broken" / f"checkpoint-{stop - stop % 4}"
    train(tmp_path / "broken", CoToCallback(), resumed, resume=str(checkpoint))
    assert resumed.rows() == whole.rows()
    # The same object in a new training begins anew.
    train(tmp_path / "again", CoToCallback(), broken)
    assert broken.rows() == whole.rows()


def test_a_checkpoint_made_without_it_or_with_other_bins(tmp_path):
    with pytest.raises(InterruptedError):
        train(tmp_path, StopAt(5))
    norms = GradientNorms(3)
    checkpoint = str(tmp_path / "checkpoint-4")
    train(tmp_path, norms, resume=checkpoint)  # saves twice on its way
    assert sum(row["steps"] for row in norms.rows()) == (STEPS - 4) * LAYERS
    with pytest.raises(ValueError, match="points: got 5, expected 3, as in the checkpoint"):
        train(tmp_path, GradientNorms(5), resume=str(tmp_path / "checkpoint-8"))


# --- one update at a time ------------------------------------------------------------------------


def begun(model, points=1):
    norms, state = GradientNorms(points), TrainerState(max_steps=4)
    norms.on_train_begin(None, state, None, model=model)
    return norms, state


def fill(model, value):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, value)


def test_updates_with_infinite_gradients_do_not_count():
    model = bert()
    norms, state = begun(model)
    fill(model, 1.0)
    norms.on_pre_optimizer_step(None, state, None)
    expected = norms.rows()
    for value in (float("inf"), float("nan")):
        next(p for n, p in model.named_parameters() if "lora_A" in n).grad[0, 0] = value
        norms.on_pre_optimizer_step(None, state, None)
    assert norms.rows() == expected
    assert {row["steps"] for row in expected} == {1}


def test_only_rank_0_records():
    model = bert()
    norms, state = begun(model)
    fill(model, 1.0)
    state.is_world_process_zero = False
    norms.on_pre_optimizer_step(None, state, None)
    assert norms.rows() == []


@pytest.mark.parametrize("use_dora", [False, True])
def test_only_the_adapters_in_blocks_count(use_dora):
    model = bert(target_modules=[*QUERY_VALUE, "pooler.dense"], use_dora=use_dora, bias="lora_only")
    norms, state = begun(model)
    fill(model, 2.0)
    norms.on_pre_optimizer_step(None, state, None)
    # Per block: A (2, 32) and B (32, 2) of two modules, and DoRA's magnitudes (32,).
    size = 2 * (2 * 32 * 2 + 32 * use_dora)
    assert [row["layer"] for row in norms.rows()] == list(range(LAYERS))
    assert [row["norm"] for row in norms.rows()] == pytest.approx([2 * size**0.5] * LAYERS)


def test_bad_points_are_told():
    with pytest.raises(ValueError, match="points: got 0, expected 1 or more"):
        GradientNorms(0)
