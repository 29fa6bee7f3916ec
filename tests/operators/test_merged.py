"""Back to a rank: exact where the rank suffices, the nearest matrix where it does not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapters import close, random_adapter, random_base, shapes

from coto.adapters.delta import LowRankAdapter, deltas, equal_ranks
from coto.errors import CotoError
from coto.operators.merge import concatenation, ensemble, product_svd, truncated


@pytest.mark.parametrize("kind", ["lora", "hira"])
@given(shape=shapes, seed=st.integers(0, 99), count=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_concatenation_is_the_weighted_sum_of_changes(kind, shape, seed, count):
    adapters = [random_adapter(kind, shape, seed + i, scaling=1.0 + i) for i in range(count)]
    base = random_base(adapters[0])
    weights = [(-0.5) ** i for i in range(count)]
    found = concatenation(adapters, weights)
    close(deltas(found, base), ensemble(adapters, weights, base))
    assert {factors.rank for factors in found.modules.values()} == {count * shape[2]}


def test_dora_has_no_concatenation():
    assert concatenation([random_adapter("dora", (4, 4, 2), 0)], [1.0]) is None


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_svd_of_a_product_needs_no_product(shape, seed):
    factors = random_adapter("lora", shape, seed).modules["layer.0.query"]
    u, s, vh = product_svd(factors.b, factors.a)
    product = factors.b @ factors.a
    torch.testing.assert_close(u * s @ vh, product)
    torch.testing.assert_close(s, torch.linalg.svdvals(product)[: len(s)])
    one = torch.eye(len(s), dtype=s.dtype)
    torch.testing.assert_close(u.mT @ u, one)
    torch.testing.assert_close(vh @ vh.mT, one)


@given(shape=shapes, seed=st.integers(0, 99), rank=st.integers(1, 8), short=st.booleans())
@settings(max_examples=25, deadline=None)
def test_no_adapter_of_that_rank_is_nearer(shape, seed, rank, short):
    adapters = [random_adapter("lora", shape, seed + i) for i in range(3)]
    base = random_base(adapters[0])
    exact = concatenation(adapters, [1 / 3] * 3)
    change = deltas(exact, base)
    found, error = truncated(change, rank, exact if short else None)
    made = deltas(found, base)
    lost = sum(float((made[n] - change[n]).square().sum()) for n in change)
    total = sum(float(change[n].square().sum()) for n in change)
    # Eckart-Young: the best error is what is left of the singular values.
    best = sum(float(torch.linalg.svdvals(change[n])[rank:].square().sum()) for n in change)
    assert lost == pytest.approx(best, abs=1e-9 * total)
    assert error == pytest.approx((lost / total) ** 0.5, abs=1e-6)
    if rank >= min(shape[0], shape[1], 3 * shape[2]):
        close(made, change)
        assert error < 1e-6


def test_error_falls_with_the_rank_to_zero():
    change = {"w": torch.randn(12, 9, generator=torch.Generator().manual_seed(0)).double()}
    errors = [truncated(change, rank)[1] for rank in range(1, 10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 1
    assert errors[-1] == 0


def test_no_change_has_no_error_and_no_rank_is_refused():
    found, error = truncated({"w": torch.zeros(4, 3)}, 2)
    assert error == 0
    assert not (found.modules["w"].b @ found.modules["w"].a).any()
    with pytest.raises(CotoError, match="rank = 0: expected 1 or more"):
        truncated({"w": torch.zeros(4, 3)}, 0)


def test_ranks_are_made_equal_without_changing_anything():
    small, large = (random_adapter("lora", (5, 4, r), r, modules=1) for r in (1, 3))
    both = {"layer.0.query": small.modules["layer.0.query"], "x": large.modules["layer.0.query"]}
    mixed = LowRankAdapter("lora", 2.0, both, {})
    base = {name: torch.zeros(5, 4, dtype=torch.float64) for name in both}
    even = equal_ranks(mixed)
    assert {factors.rank for factors in even.modules.values()} == {3}
    close(deltas(even, base), deltas(mixed, base))
