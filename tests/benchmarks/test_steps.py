import numpy as np
import pytest
import torch

from benchmarks.common import shapes
from benchmarks.common.shapes import BertShape
from benchmarks.common.steps import Stepper, by_position, sample_flags, whole_schedule
from coto.settings import Model
from tests.benchmarks.conftest import CPU, SMALL_BERT, bench_of

SHAPE = BertShape(**SMALL_BERT)
BATCHES = shapes.batches(SHAPE.vocabulary, 4, 8, CPU, causal=False)


@pytest.fixture
def stepper() -> Stepper:
    model = shapes.with_adapter(
        shapes.bert(SHAPE, CPU), "lora", 2, shapes.BERT_LINEAR, ["classifier"]
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # else a step tells nothing of A
            torch.nn.init.normal_(parameter, std=0.1)
    return Stepper(model, CPU, lr=0.0)


def gradients(stepper: Stepper, how: str, flags: np.ndarray) -> dict[str, torch.Tensor]:
    stepper.optimizer.step = lambda: None
    stepper.optimizer.zero_grad = lambda: None
    try:
        stepper.step(BATCHES[0], how, flags)
        named = stepper.model.named_parameters()
        return {name: p.grad.clone() for name, p in named if p.grad is not None}
    finally:
        for parameter in stepper.model.parameters():
            parameter.grad = None


def test_all_six_linear_layers_of_every_block_have_an_adapter(stepper: Stepper) -> None:
    assert [len(names) for names in stepper.gate.groups.values()] == [6, 6, 6]


@pytest.mark.parametrize("flags", [[1, 0, 1], [0, 0, 1], [1, 0, 0], [1, 1, 1]])
def test_the_floor_computes_what_coto_computes(stepper: Stepper, flags: list[int]) -> None:
    mask = np.array(flags, dtype=bool)
    coto, floor = gradients(stepper, "coto", mask), gradients(stepper, "floor", mask)
    assert {name for name in coto if "lora" in name}
    assert coto.keys() == floor.keys()
    for name in coto:
        torch.testing.assert_close(coto[name], floor[name])
    whole = gradients(stepper, "vanilla", mask)
    assert len(whole) > len(coto) or all(flags)


def test_a_step_leaves_the_model_as_it_was(stepper: Stepper) -> None:
    before = [(name, id(module)) for name, module in stepper.model.named_modules()]
    for how in ("vanilla", "coto", "floor"):
        stepper.step(BATCHES[0], how, np.array([False, True, False]))
    assert before == [(name, id(module)) for name, module in stepper.model.named_modules()]
    assert not any(m._forward_pre_hooks for m in stepper.model.modules())


def test_memory_grows_with_the_blocks_above_the_lowest_active_one(stepper: Stepper) -> None:
    highest = stepper.memory(BATCHES[0], "coto", np.array([False, False, True]))
    lowest = stepper.memory(BATCHES[0], "coto", np.array([True, False, False]))
    every = stepper.memory(BATCHES[0], "vanilla")
    assert highest < lowest < every


def test_rows_of_the_schedule_and_of_positions(stepper: Stepper, tmp_path) -> None:
    bench = bench_of(Model(), tmp_path, rounds=6)
    rows = whole_schedule("lora", {"plain": stepper}, BATCHES, bench, steps=3)
    assert [(row["way"], row["against"]) for row in rows] == [
        ("coto", "vanilla"),
        ("floor", "vanilla"),
    ]
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in rows)
    assert 0.4 < rows[0]["active"] < 0.95
    rows = by_position("lora", stepper, BATCHES, bench, [1, 2])
    names = ["lowest 1", "highest 1", "lowest 2", "highest 2"]
    assert [row["way"] for row in rows] == names
    assert [row["active"] for row in rows] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert rows[1]["memory_mb"] < rows[0]["memory_mb"] < rows[0]["memory_mb_against"]


def test_sampled_steps_cover_the_schedule() -> None:
    flags = np.array([sample_flags(24, steps=40, seed=seed) for seed in range(8)])
    shares = flags.mean(axis=(0, 2))
    assert shares[:4].mean() < 0.3
    assert (shares[30:] == 1).all()
    assert flags.mean() == pytest.approx(0.6625, abs=0.03)  # the linear ramp from 0.1 over 75 %
