"""LoRA-align: what a rotation of the ranks may change, and what it may not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapters import KINDS, close, random_adapter, random_base, rotated, shapes
from scipy.optimize import approx_fprime

from coto.adapters.delta import deltas
from coto.errors import CotoError
from coto.operators.align import _Gap, align
from coto.operators.merge import ensemble, fusion
from coto.operators.operator import OPERATORS

sizes = st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4))


def gap(adapters, weights, base) -> dict[str, float]:
    fused, mixed = deltas(fusion(adapters, weights), base), ensemble(adapters, weights, base)
    return {name: float(torch.dist(fused[name], mixed[name])) for name in fused}


def invertible(rank: int, seed: int, orthogonal: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rank, rank, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(matrix)[0] if orthogonal else matrix + 2 * torch.eye(rank)


@pytest.mark.parametrize("kind", ["lora", "hira"])
@given(
    shape=sizes,
    seed=st.integers(0, 99),
    count=st.integers(2, 3),
    start=st.sampled_from(("identity", "rotation")),
    iterations=st.sampled_from((0, 3, 30)),
)
@settings(max_examples=25, deadline=None)
def test_no_layer_gets_further_from_the_ensemble(kind, shape, seed, count, start, iterations):
    adapters = [random_adapter(kind, shape, seed + i) for i in range(count)]
    base = random_base(adapters[0])
    weights = [0.6, 0.4] if count == 2 else [0.5, 0.3, 0.2]
    found = align(adapters, weights, base, start=start, iterations=iterations)
    before, after = gap(adapters, weights, base), gap(found.adapters, weights, base)
    for name, row in found.modules.items():
        assert after[name] <= before[name] * (1 + 1e-9)
        assert row["gap_before"] == pytest.approx(before[name])
        assert row["gap_after"] == pytest.approx(after[name], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_it_helps_and_leaves_every_change_as_it_was(kind):
    adapters = [random_adapter(kind, (12, 10, 3), seed) for seed in range(3)]
    base = random_base(adapters[0])
    found = align(adapters, [1 / 3] * 3, base)
    for before, after in zip(adapters, found.adapters, strict=True):
        close(deltas(after, base), deltas(before, base))
    close(deltas(found.adapters[0], base), deltas(adapters[0], base), rtol=0, atol=0)
    if kind == "dora":  # its gap of BA is none of ΔW
        assert found.report.keys() == {"p_distance", "p_norm"}
    else:
        assert found.report["gap_after"] < 0.8 * found.report["gap_before"]
    assert found.report["p_distance"] > 0
    assert OPERATORS["lora-align"](adapters, [1 / 3] * 3, base).report == found.report


@given(shape=sizes, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_a_rotated_copy_is_undone(shape, seed):
    adapter = random_adapter("lora", shape, seed)
    base = random_base(adapter)
    twin = rotated(adapter, invertible(shape[2], seed, orthogonal=True))
    found = align([adapter, twin], [0.5, 0.5], base, start="rotation")
    close(deltas(fusion(found.adapters, [0.5, 0.5]), base), deltas(adapter, base))


def test_fusion_ignores_a_rotation_only_after_alignment():
    first, second = (random_adapter("lora", (9, 8, 3), seed) for seed in (1, 2))
    base, half = random_base(first), [0.5, 0.5]
    turned = rotated(second, invertible(3, 4, orthogonal=True))

    def fused(other, aligned):
        pair = [first, other]
        if aligned:
            pair = align(pair, half, base, start="rotation", iterations=20).adapters
        return deltas(fusion(pair, half), base)

    for name in base:
        assert torch.dist(fused(second, False)[name], fused(turned, False)[name]) > 0.1
    close(fused(second, True), fused(turned, True), rtol=1e-4, atol=1e-4)


def test_a_general_invertible_matrix_is_undone_from_the_identity():
    adapter = random_adapter("lora", (12, 10, 2), 3)
    base = random_base(adapter)
    twin = rotated(adapter, torch.tensor([[1.5, 0.3], [-0.2, 0.8]], dtype=torch.float64))
    found = align([adapter, twin], [0.5, 0.5], base)
    assert found.report["gap_before"] > 0.1
    assert found.report["gap_after"] < 1e-3 * found.report["gap_before"]


def test_for_two_adapters_the_best_p_does_not_depend_on_their_shares():
    adapters = [random_adapter("lora", (9, 8, 2), seed) for seed in (1, 2)]
    base = random_base(adapters[0])
    even = align(adapters, [0.5, 0.5], base).adapters[1]
    uneven = align(adapters, [0.8, 0.2], base).adapters[1]
    for name in base:
        torch.testing.assert_close(
            even.modules[name].b, uneven.modules[name].b, rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_is_that_of_finite_differences(masked):
    adapters = [random_adapter("lora", (6, 5, 2), seed, modules=1) for seed in range(3)]
    weight = next(iter(random_base(adapters[0]).values()))
    parts = [next(iter(adapter.modules.values())) for adapter in adapters]
    function = _Gap(parts, [0.5, 0.3, 0.2], weight if masked else None)
    p = np.stack([invertible(2, seed).numpy() for seed in range(3)])
    numeric = approx_fprime(p.ravel(), lambda x: function.value(x.reshape(p.shape)), 1e-7)
    np.testing.assert_allclose(
        function.value_and_gradient(p)[1].ravel(), numeric, rtol=1e-4, atol=1e-4
    )


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_the_starting_rotations_are_orthogonal_and_leave_the_first_adapter(shape, seed):
    parts = [random_adapter("lora", shape, seed + i).modules["layer.0.query"] for i in range(3)]
    found = _Gap(parts, [0.5, 0.3, 0.2], None).rotations()
    one = np.eye(shape[2])
    np.testing.assert_array_equal(found[0], one)
    np.testing.assert_allclose(found @ found.transpose(0, 2, 1), np.stack([one] * 3), atol=1e-9)


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_single_precision_and_zero_factors_do_no_harm(shape, seed):
    adapters = []
    for i in range(2):
        made = random_adapter("lora", shape, seed + i)
        for factors in made.modules.values():
            if i:
                factors.b.zero_()
        modules = {n: type(f)(f.a.float(), f.b.float()) for n, f in made.modules.items()}
        adapters.append(type(made)("lora", made.scaling, modules, {}))
    base = {n: w.float() for n, w in random_base(adapters[0]).items()}
    for start in ("identity", "rotation"):
        found = align(adapters, [0.5, 0.5], base, start=start, iterations=20)
        assert all(f.a.dtype == torch.float32 for f in found.adapters[1].modules.values())
        assert all(f.a.isfinite().all() for f in found.adapters[1].modules.values())


def test_bad_input_is_told():
    first, second = (random_adapter("lora", (4, 4, rank), 0) for rank in (2, 3))
    base = random_base(first)
    with pytest.raises(CotoError, match=r"lora-align: ranks 2 and 3 of layer\.0\.query"):
        align([first, second], [0.5, 0.5], base)
    with pytest.raises(CotoError, match="start = 'random': expected identity or rotation"):
        align([first], [1.0], base, start="random")
    with pytest.raises(CotoError, match="iterations = -1: expected 0 or more"):
        align([first], [1.0], base, iterations=-1)
