"""LoRA-LEGO against its limits: all units, one cluster, and clusters that are plain to see."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapters import KINDS, close, random_adapter, random_base, shapes

from coto.adapters.delta import Factors, LowRankAdapter, delta, deltas
from coto.errors import CotoError
from coto.operators.operator import OPERATORS

PLAIN = {"parameter_reweighting": False, "output_reweighting": False}
lego = OPERATORS["lora-lego"]


def equal(adapters):
    return [1 / len(adapters)] * len(adapters)


@given(
    kind=st.sampled_from(("lora", "hira")),
    shape=shapes,
    seed=st.integers(0, 99),
    count=st.integers(1, 3),
    output=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_with_as_many_clusters_as_units_it_is_the_concatenation(kind, shape, seed, count, output):
    adapters = [random_adapter(kind, shape, seed + i) for i in range(count)]
    base = random_base(adapters[0])
    k = count * shape[2]
    found = lego(adapters, equal(adapters), base, {"k": k, "output_reweighting": output})
    factor = count**-0.5 if output else 1.0
    changes = [deltas(adapter, base) for adapter in adapters]
    close(found.deltas, {n: factor * sum(change[n] for change in changes) for n in base})
    assert found.report == {"variance_within_clusters": 0}


@pytest.mark.parametrize("kind", KINDS)
def test_with_one_cluster_it_is_the_mean_unit(kind):
    adapters = [random_adapter(kind, (5, 4, 3), seed) for seed in range(2)]
    base = random_base(adapters[0])
    found = lego(adapters, equal(adapters), base, {"k": 1, **PLAIN})
    for name in base:
        parts = [adapter.modules[name] for adapter in adapters]
        a = torch.cat([part.a for part in parts]).mean(0, keepdim=True)
        b = torch.cat([part.b for part in parts], dim=1).mean(1, keepdim=True)
        m = None if kind != "dora" else sum(part.magnitude for part in parts) / 2
        expected = delta(kind, adapters[0].scaling, Factors(a, b, m), base[name])
        torch.testing.assert_close(found.deltas[name], expected)


def test_units_that_belong_together_are_found_under_any_order_of_ranks():
    # Twins up to little noise: fusion mixes strangers once the ranks are permuted, LEGO does not.
    first = random_adapter("lora", (40, 30, 4), 1)
    noise = random_adapter("lora", (40, 30, 4), 2)
    order = torch.tensor([2, 0, 3, 1])
    twin = LowRankAdapter(
        "lora",
        first.scaling,
        {
            n: Factors(
                (f.a + 1e-3 * noise.modules[n].a)[order],
                (f.b + 1e-3 * noise.modules[n].b)[:, order],
            )
            for n, f in first.modules.items()
        },
        {},
    )
    base = random_base(first)
    found = lego([first, twin], [0.5, 0.5], base).deltas
    fused = OPERATORS["fusion"]([first, twin], [0.5, 0.5], base).deltas
    for name, change in deltas(first, base).items():
        assert torch.dist(found[name], change) < 0.01 * change.norm()
        assert torch.dist(fused[name], change) > 0.3 * change.norm()


@given(shape=shapes, seed=st.integers(0, 99), clusters=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_the_order_of_ranks_within_an_adapter_does_not_matter(shape, seed, clusters):
    adapters = [random_adapter("lora", shape, seed + i) for i in range(3)]
    base = random_base(adapters[0])
    flipped = [
        LowRankAdapter(
            "lora",
            a.scaling,
            {n: Factors(f.a.flip(0), f.b.flip(1)) for n, f in a.modules.items()},
            {},
        )
        for a in adapters
    ]
    chosen = {"k": min(clusters, 3 * shape[2])}
    close(
        lego(adapters, equal(adapters), base, chosen).deltas,
        lego(flipped, equal(adapters), base, chosen).deltas,
    )


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("max", float("inf"))])
def test_parameter_reweighting_gives_centres_their_members_mean_norm(norm, order):
    adapters = [random_adapter("lora", (5, 4, 3), seed, modules=1) for seed in range(3)]
    base = random_base(adapters[0])
    name = next(iter(base))
    units = torch.cat(
        [torch.cat([a.modules[name].a, a.modules[name].b.mT], dim=1) for a in adapters]
    )
    found = lego(
        adapters, equal(adapters), base, {"k": 1, "output_reweighting": False, "norm": norm}
    )
    factors = found.adapter.modules[name]
    centre = torch.cat([factors.a, factors.b.mT], dim=1)
    size = torch.linalg.vector_norm(centre, order)
    torch.testing.assert_close(size, torch.linalg.vector_norm(units, order, dim=1).mean())
    # The direction is that of the mean.
    cosine = torch.nn.functional.cosine_similarity(centre[0], units.mean(0), dim=0)
    assert float(cosine) == pytest.approx(1)


def test_output_reweighting_is_the_root_of_the_ranks_ratio():
    adapters = [random_adapter("lora", (8, 6, 3), seed) for seed in range(3)]
    base = random_base(adapters[0])
    for k in (1, 2, 3, 5):
        plain = lego(adapters, equal(adapters), base, {"k": k, "output_reweighting": False}).deltas
        scaled = lego(adapters, equal(adapters), base, {"k": k}).deltas
        close(scaled, {n: (3 / k) ** 0.5 * plain[n] for n in plain})


def test_more_clusters_leave_less_variance_and_normalised_units_ignore_size():
    adapters = [random_adapter("lora", (20, 20, 6), seed) for seed in range(3)]
    base = random_base(adapters[0])
    lost = [
        lego(adapters, equal(adapters), base, {"k": k}).report["variance_within_clusters"]
        for k in (1, 6, 17, 18)
    ]
    assert lost[0] == pytest.approx(1)
    assert lost[-1] == 0
    assert np.all(np.diff(lost) < 0)
    # Halves scaled to norm 1: a tiny B takes part in the clustering as much as a large one.
    pairs = torch.eye(2, dtype=torch.float64).repeat(2, 1)
    a = torch.tensor([[100.0], [101.0], [102.0], [103.0]], dtype=torch.float64)
    tiny = LowRankAdapter("lora", 1.0, {"layer.0.q": Factors(a, 1e-3 * pairs.mT)}, {})
    base = {"layer.0.q": torch.zeros(2, 1, dtype=torch.float64)}
    settings_ = {"k": 2, **PLAIN}
    raw, normalised = (
        lego([tiny], [1.0], base, {**settings_, "units": units}).adapter.modules["layer.0.q"].b
        for units in ("raw", "normalised")
    )
    assert (raw > 0).all()  # clustered by A's size: every centre mixes both directions
    assert (normalised > 0).sum() == 2  # clustered by B's direction


def test_equal_units_leave_clusters_empty_and_bad_input_is_told():
    adapter = random_adapter("lora", (5, 4, 2), 0)
    base = random_base(adapter)
    found = lego([adapter] * 3, equal([0] * 3), base, {"k": 4, **PLAIN})
    close(found.deltas, deltas(adapter, base))
    with pytest.raises(
        CotoError, match=r"lora-lego: k = 5: expected 1 to 4, the ranks of layer\.0"
    ):
        lego([adapter] * 2, [0.5, 0.5], base, {"k": 5})
    with pytest.raises(CotoError, match=r"lora-lego: k = 0: expected 1 to 4"):
        lego([adapter] * 2, [0.5, 0.5], base, {"k": 0})
    with pytest.raises(CotoError, match=r"weights 0\.7, 0\.3: expected equal ones"):
        lego([adapter] * 2, [0.7, 0.3], base)
    with pytest.raises(
        CotoError, match="lora-lego: units = 'unit': expected one of raw, normalised"
    ):
        lego([adapter] * 2, [0.5, 0.5], base, {"units": "unit"})
