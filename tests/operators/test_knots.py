"""KnOTS: the shared basis is exact, orthonormal, and only as large as the adapters' span."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapters import KINDS, close, random_adapter, random_base, shapes

from coto.adapters.delta import LowRankAdapter, deltas
from coto.operators.operator import OPERATORS
from coto.operators.sparse import shared_basis, ties

knots = OPERATORS["knots"]


@pytest.mark.parametrize("kind", KINDS)
@given(shape=shapes, seed=st.integers(0, 99), count=st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_basis_and_coordinates_give_every_change_back(kind, shape, seed, count):
    adapters = [random_adapter(kind, shape, seed + i) for i in range(count)]
    base = random_base(adapters[0])
    bases, coordinates = shared_basis(adapters, base)
    for adapter, coordinate in zip(adapters, coordinates, strict=True):
        close({n: bases[n] @ coordinate[n] for n in bases}, deltas(adapter, base))
    for name, u in bases.items():
        torch.testing.assert_close(u.mT @ u, torch.eye(u.shape[1], dtype=u.dtype))
        side_by_side = torch.cat([deltas(adapter, base)[name] for adapter in adapters], dim=1)
        assert u.shape[1] == torch.linalg.matrix_rank(side_by_side)
        # S·Vᵀ: rows are orthogonal across all adapters, and as long as the singular values.
        rows = torch.cat([coordinate[name] for coordinate in coordinates], dim=1)
        expected = torch.linalg.svdvals(side_by_side)[: u.shape[1]]
        torch.testing.assert_close(rows @ rows.mT, torch.diag(expected.square()))


@pytest.mark.parametrize("kind", KINDS)
@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_with_task_arithmetic_inside_it_is_task_arithmetic(kind, shape, seed):
    adapters = [random_adapter(kind, shape, seed + i) for i in range(3)]
    base, weights = random_base(adapters[0]), [0.5, 0.3, 0.2]
    inside = knots(adapters, weights, base, {"inner": "task-arithmetic", "scale": 0.4})
    outside = OPERATORS["task-arithmetic"](adapters, weights, base, {"scale": 0.4})
    close(inside.deltas, outside.deltas)


def test_the_way_through_factors_is_the_way_through_the_changes():
    # LoRA's short cut against the plain SVD of the same changes, which HiRA takes (W0 = 1).
    adapters = [random_adapter("lora", (9, 7, 2), seed, scaling=1.0) for seed in range(3)]
    plain = [LowRankAdapter("hira", 1.0, a.modules, {}) for a in adapters]
    ones = {n: torch.ones_like(w) for n, w in random_base(adapters[0]).items()}
    for chosen in ({}, {"keep": 0.5, "reduce": "sum", "scale": 0.3}, {"drop": 0.0, "keep": 1.0}):
        short = knots(adapters, [0.5, 0.3, 0.2], ones, chosen)
        close(short.deltas, knots(plain, [0.5, 0.3, 0.2], ones, chosen).deltas)


def test_a_rotation_of_the_output_space_passes_through_knots_but_not_through_ties():
    # The point of KnOTS: entries are compared in the adapters' own basis, not in the weight's.
    adapters = [random_adapter("lora", (8, 6, 2), seed, modules=1) for seed in range(3)]
    base = random_base(adapters[0])
    name = next(iter(base))
    turn = torch.linalg.qr(random_adapter("lora", (8, 8, 8), 5).modules["layer.0.query"].a)[0]
    turned = [
        LowRankAdapter(
            "lora", a.scaling, {n: type(f)(f.a, turn @ f.b) for n, f in a.modules.items()}, {}
        )
        for a in adapters
    ]
    third = [1 / 3] * 3
    found = knots(adapters, third, base).deltas[name]
    torch.testing.assert_close(knots(turned, third, base).deltas[name], turn @ found)
    plain, plain_turned = (
        ties([deltas(a, base) for a in group], third)[name] for group in (adapters, turned)
    )
    assert not torch.allclose(plain_turned, turn @ plain)


def test_coordinates_are_trimmed_over_the_whole_model():
    adapters = [random_adapter("lora", (8, 6, 2), seed) for seed in range(2)]
    base = random_base(adapters[0])
    for adapter in adapters:
        adapter.modules["layer.1.query"].b.mul_(1e4)
    found = knots(adapters, [0.5, 0.5], base, {"keep": 0.4}).deltas
    assert not found["layer.0.query"].any()
    assert found["layer.1.query"].any()


def test_adapters_that_never_learned_and_equal_ones_are_no_trouble():
    adapter = random_adapter("lora", (6, 5, 2), 0)
    base = random_base(adapter)
    bases, _ = shared_basis([adapter, adapter], base)
    assert all(u.shape[1] == 2 for u in bases.values())
    for factors in adapter.modules.values():
        factors.b.zero_()
    found = knots([adapter, adapter], [0.5, 0.5], base)
    assert all(not change.any() for change in found.deltas.values())
    single = [
        LowRankAdapter(
            "lora", 2.0, {n: type(f)(f.a.float(), f.b.float()) for n, f in a.modules.items()}, {}
        )
        for a in (random_adapter("lora", (6, 5, 2), seed) for seed in range(2))
    ]
    found = knots(single, [0.5, 0.5], {n: w.float() for n, w in base.items()})
    assert all(change.dtype == torch.float32 for change in found.deltas.values())
