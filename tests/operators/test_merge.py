"""Merging by algebraic identity, over random shapes, for every kind."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapters import KINDS, close, random_adapter, random_base, rotated, shapes

from coto.adapters.delta import deltas
from coto.errors import CotoError
from coto.operators.merge import average_heads, ensemble, fusion
from coto.operators.operator import OPERATORS


def merge(name, adapters, weights, base):
    """ΔW of a merge by an operator's name."""
    return OPERATORS[name](adapters, weights, base).deltas


@pytest.mark.parametrize("kind", ["lora", "hira"])
@given(shape=shapes, seed=st.integers(0, 99), weight=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_ensemble_minus_fusion_is_the_cross_term(kind, shape, seed, weight):
    first, second = (random_adapter(kind, shape, seed + i) for i in range(2))
    base = random_base(first)
    weights = [1 - weight, weight]
    fused = merge("fusion", [first, second], weights, base)
    mixed = merge("ensemble", [first, second], weights, base)
    for name, a in first.modules.items():
        b = second.modules[name]
        cross = weight * (1 - weight) * (a.b - b.b) @ (a.a - b.a)
        gap = base[name] * cross if kind == "hira" else first.scaling * cross
        torch.testing.assert_close(mixed[name] - fused[name], gap)


@pytest.mark.parametrize("space", ["fusion", "ensemble"])
@pytest.mark.parametrize("kind", KINDS)
@given(shape=shapes, seed=st.integers(0, 99), count=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_merging_an_adapter_with_itself_is_that_adapter(kind, space, shape, seed, count):
    adapter = random_adapter(kind, shape, seed)
    base = random_base(adapter)
    close(merge(space, [adapter] * count, [1 / count] * count, base), deltas(adapter, base))


@pytest.mark.parametrize("space", ["fusion", "ensemble"])
@pytest.mark.parametrize("kind", KINDS)
def test_order_does_not_matter_and_ends_are_the_adapters(kind, space):
    adapters = [random_adapter(kind, (5, 4, 2), seed) for seed in range(3)]
    base = random_base(adapters[0])
    weights = [0.5, 0.3, 0.2]
    close(merge(space, adapters, weights, base), merge(space, adapters[::-1], weights[::-1], base))
    close(merge(space, adapters, [0, 1, 0], base), deltas(adapters[1], base))


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_joint_rotation_moves_fusion_but_never_ensemble(shape, seed):
    _, _, rank = shape
    first, second = (random_adapter("lora", shape, seed + i) for i in range(2))
    rotation = torch.linalg.qr(
        random_adapter("lora", (rank, rank, rank), seed).modules["layer.0.query"].a
    )[0]
    turned = rotated(second, rotation)
    base = random_base(first)
    close(ensemble([first, second], [0.5, 0.5], base), ensemble([first, turned], [0.5, 0.5], base))
    both = [rotated(adapter, rotation) for adapter in (first, second)]
    close(
        merge("fusion", [first, second], [0.5, 0.5], base), merge("fusion", both, [0.5, 0.5], base)
    )


def test_fusion_of_independent_adapters_shrinks_the_update():
    # Factor space has 1/4 of each delta plus cross terms at 1:1; PEFT's `linear` has neither.
    first, second = (random_adapter("lora", (6, 5, 2), seed) for seed in (1, 2))
    base = random_base(first)
    fused = merge("fusion", [first, second], [0.5, 0.5], base)
    for name in fused:
        a, b = first.modules[name], second.modules[name]
        expected = first.scaling * 0.25 * (a.b @ a.a + b.b @ b.a + a.b @ b.a + b.b @ a.a)
        torch.testing.assert_close(fused[name], expected)


def test_heads_are_averaged():
    first, second = (random_adapter("lora", (2, 2, 1), seed) for seed in (1, 2))
    head = average_heads([first, second], [0.25, 0.75])["head.weight"]
    torch.testing.assert_close(
        head, 0.25 * first.heads["head.weight"] + 0.75 * second.heads["head.weight"]
    )


def test_what_cannot_be_merged_is_refused_in_one_line():
    lora = random_adapter("lora", (4, 4, 2), 0)
    base = random_base(lora)
    with pytest.raises(CotoError, match="kinds lora and hira"):
        merge("ensemble", [lora, random_adapter("hira", (4, 4, 2), 1)], [0.5, 0.5], base)
    with pytest.raises(CotoError, match="ranks 2 and 3"):
        fusion([lora, random_adapter("lora", (4, 4, 3), 1)], [0.5, 0.5])
    with pytest.raises(CotoError, match=r"scalings 1\.7 and 2\.0"):
        fusion([lora, random_adapter("lora", (4, 4, 2), 1, scaling=2.0)], [0.5, 0.5])
    with pytest.raises(CotoError, match=r"only some adapters have layer\.2\.query"):
        fusion([lora, random_adapter("lora", (4, 4, 2), 1, modules=3)], [0.5, 0.5])
    with pytest.raises(CotoError, match="1 adapters and 2 weights"):
        fusion([lora], [0.5, 0.5])
    with pytest.raises(CotoError, match="operator 'linear': expected one of dare, dare-ties,"):
        merge("linear", [lora], [1.0], base)
