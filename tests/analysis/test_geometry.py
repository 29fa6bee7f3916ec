"""Geometry of adapters against explicit weight changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.manifold import TSNE

from coto.adapters.delta import deltas
from coto.analysis.geometry import embed, geometry
from coto.errors import CotoError
from tests.operators.random_adapters import KINDS, random_adapter, random_base, rotated

# Distances come from inner products, which leaves half of a double's digits near zero.
BLUR = 1e-6


def adapters_of(kind, ranks=(2, 3, 1), scalings=(1.7, 0.5, -2.0)):
    return [
        random_adapter(kind, (7, 5, rank), seed, modules=3, scaling=scaling)
        for seed, (rank, scaling) in enumerate(zip(ranks, scalings, strict=True))
    ]


def fields(found):
    return vars(found).items()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_explicit_weight_changes_give(kind):
    adapters = adapters_of(kind)
    base = random_base(adapters[0])
    points = [deltas(adapter, base) for adapter in adapters]

    def cosine(left, right):
        pairs = [(left[n].flatten(), right[n].flatten()) for n in base]
        return np.mean([float(torch.cosine_similarity(x, y, dim=0)) for x, y in pairs])

    def norms(left, right):
        return np.array([float(torch.linalg.matrix_norm(left[n] - right[n])) for n in base])

    nothing = {name: torch.zeros_like(weight) for name, weight in base.items()}
    expected = {
        "cosine": [[cosine(x, y) for y in points] for x in points],
        "euclidean": [[norms(x, y).mean() for y in points] for x in points],
        "distance": [[np.sqrt((norms(x, y) ** 2).sum()) for y in points] for x in points],
        "pretrained_cosine": [cosine(x, base) for x in points],
        "pretrained_euclidean": [norms(x, base).mean() for x in points],
        "norm": [norms(x, nothing).mean() for x in points],
    }
    found = geometry(adapters, base)
    for name, value in fields(found):
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=BLUR, err_msg=name)
    assert (found.euclidean >= 0).all()
    assert (np.abs(found.cosine) <= 1).all()


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99))
@example(kind="lora", seed=49)  # large, so that the blur is
@settings(max_examples=15, deadline=None)
def test_other_factors_of_the_same_change_are_at_the_same_place(kind, seed):
    adapter, other = (random_adapter(kind, (7, 6, 3), s) for s in (seed, seed + 1))
    base = random_base(adapter)
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64) + 4 * torch.eye(3)
    found = geometry([adapter, rotated(adapter, matrix), other], base)
    np.testing.assert_allclose(found.cosine[0, :2], 1, rtol=1e-9)
    blur = max(BLUR, 1e-7 * found.norm[0])  # grows with the norm, as geometry() says
    np.testing.assert_allclose(found.distance[:2, :2], 0, atol=blur)
    for _, value in fields(found):
        np.testing.assert_allclose(value[0], value[1], rtol=1e-9, atol=blur)
        np.testing.assert_array_equal(value, value.T)


def test_scaling_an_adapter_keeps_angles_and_stretches_norms():
    adapter = random_adapter("lora", (7, 6, 3), 0)
    longer, opposite = (replace(adapter, scaling=f * adapter.scaling) for f in (3.0, -1.0))
    found = geometry([adapter, longer, opposite], random_base(adapter))
    np.testing.assert_allclose(found.cosine[0], [1, 1, -1])
    np.testing.assert_allclose(found.norm, found.norm[0] * np.array([1, 3, 1]))
    np.testing.assert_allclose(
        found.euclidean[0], found.norm[0] * np.array([0, 2, 2]), rtol=1e-9, atol=BLUR
    )


@pytest.mark.parametrize("kind", ["lora", "hira"])
def test_a_zero_change_is_at_the_start_and_at_no_angle(kind):
    adapter = random_adapter(kind, (7, 6, 2), 0, modules=2)
    zero = {n: replace(f, b=torch.zeros_like(f.b)) for n, f in adapter.modules.items()}
    half = dict(adapter.modules) | {"layer.0.query": zero["layer.0.query"]}
    base = random_base(adapter)
    found = geometry([adapter, *(replace(adapter, modules=m) for m in (zero, half))], base)
    np.testing.assert_allclose(found.cosine, [[1, 0, 0.5], [0, 0, 0], [0.5, 0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(found.euclidean[0, 1], found.norm[0])
    assert found.norm[1] == found.pretrained_cosine[1] == 0
    mean = np.mean([float(torch.linalg.matrix_norm(weight)) for weight in base.values()])
    assert found.pretrained_euclidean[1] == pytest.approx(mean)


def test_adapters_that_cannot_be_compared_are_refused():
    lora = random_adapter("lora", (4, 4, 2), 0)
    base = random_base(lora)
    with pytest.raises(CotoError, match="geometry: kinds hira, lora: expected one kind"):
        geometry([lora, random_adapter("hira", (4, 4, 2), 1)], base)
    with pytest.raises(CotoError, match=r"geometry: only some adapters have layer\.2\.query"):
        geometry([lora, random_adapter("lora", (4, 4, 2), 1, modules=3)], base)
    with pytest.raises(CotoError, match="geometry: kinds of no adapters"):
        geometry([], base)


def points_and_distances(count, gap=0.0):
    points = np.random.default_rng(0).normal(size=(count, 6))
    points[: count // 2] += gap
    return points, np.linalg.norm(points[:, None] - points, axis=2)


def test_the_map_is_that_of_points_at_these_distances():
    points, distance = points_and_distances(8)
    found = embed(distance, seed=3, perplexity=2.0)
    expected = TSNE(init="random", method="exact", perplexity=2.0, random_state=3)
    np.testing.assert_allclose(found, expected.fit_transform(points), rtol=1e-2, atol=1e-2)


def test_the_map_keeps_groups_together_and_follows_its_seed():
    _, distance = points_and_distances(10, gap=20)
    found = embed(distance, seed=0)
    np.testing.assert_array_equal(found, embed(distance, seed=0))
    assert not np.allclose(found, embed(distance, seed=1))
    apart = np.linalg.norm(found[:, None] - found, axis=2)
    nearest = np.where(np.eye(10, dtype=bool), np.inf, apart).argmin(axis=1)
    assert ((nearest < 5) == (np.arange(10) < 5)).all()


def test_four_adapters_are_enough_for_a_map_and_three_are_not():
    _, distance = points_and_distances(4)
    assert np.isfinite(embed(distance, seed=0)).all()
    with pytest.raises(CotoError, match="t-SNE: 3 adapters: expected 4 or more"):
        embed(distance[:3, :3], seed=0)
    with pytest.raises(CotoError, match=r"perplexity = 4: expected from 1 to below 4"):
        embed(distance, seed=0, perplexity=4)
