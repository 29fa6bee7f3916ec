"""TIES, DARE and task arithmetic by hand, by identity, and against PEFT's own functions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils import merge_utils
from random_adapters import KINDS, close, random_adapter, random_base, shapes

from coto.adapters.delta import deltas
from coto.errors import CotoError
from coto.operators.operator import OPERATORS
from coto.operators.sparse import dare, task_arithmetic, ties


def vectors(count: int, seed: int = 0, out: int = 8, width: int = 5):
    generator = torch.Generator().manual_seed(seed)
    names = ("layer.0.q", "layer.1.q")
    return [
        {n: torch.randn(out, width, generator=generator, dtype=torch.float64) for n in names}
        for _ in range(count)
    ]


def test_ties_by_hand():
    one = {"w": torch.tensor([[4.0, -3.0, 0.1, 2.0]])}
    two = {"w": torch.tensor([[2.0, 5.0, 0.2, 1.0]])}
    # Kept: 4, -3, 2 | 2, 5, 1; signs elected: + (6), + (2), none, + (3).
    found = ties([one, two], [0.5, 0.5], keep=0.75)["w"]
    torch.testing.assert_close(found, torch.tensor([[3.0, 5.0, 0.0, 1.5]]))
    found = ties([one, two], [0.5, 0.5], keep=0.75, reduce="sum", scale=0.3)["w"]
    torch.testing.assert_close(found, 0.3 * torch.tensor([[6.0, 5.0, 0.0, 3.0]]))
    # Unequal shares: the heavier adapter wins the election, and the mean is weighted.
    found = ties([one, two], [0.8, 0.2], keep=0.75)["w"]
    torch.testing.assert_close(found, torch.tensor([[3.6, -3.0, 0.0, 1.8]]))
    # A subtracted task votes with the sign that it is added with.
    found = ties([one, two], [0.5, -0.5], keep=0.75)["w"]
    torch.testing.assert_close(found, torch.tensor([[4.0, -4.0, 0.0, 2.0]]))
    # An adapter with no share takes no part.
    torch.testing.assert_close(ties([one, two], [1.0, 0.0], keep=1.0)["w"], one["w"])


def authors_ties(flat: torch.Tensor) -> torch.Tensor:
    """What the authors' ties_minimal.ipynb makes of trimmed vectors (adapters, entries)."""
    elected = torch.sign(flat.sum(dim=0))
    elected[elected == 0] = torch.sign(elected.sum())
    kept = torch.where(elected.unsqueeze(0) > 0, flat > 0, flat < 0) * flat
    return kept.sum(dim=0) / torch.clamp((kept != 0).sum(dim=0).double(), min=1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_sum_of_exactly_zero_takes_the_sign_of_most_entries_of_the_model(sign):
    one = {"v": torch.tensor([[3.0, 1.0]]), "w": torch.tensor([[-2.0, -2.0, -4.0]])}
    two = {"v": torch.tensor([[-3.0, 1.0]]), "w": torch.tensor([[-2.0, -1.0, 4.0]])}
    one, two = ({n: sign * m for n, m in vector.items()} for vector in (one, two))
    found = torch.cat(list(ties([one, two], [0.5, 0.5], keep=1.0).values()), dim=1)
    flat = torch.stack([torch.cat(list(vector.values()), dim=1)[0] for vector in (one, two)])
    torch.testing.assert_close(found[0], authors_ties(flat).float())
    expected = torch.tensor([-3.0, 1.0, -2.0, -1.5, -4.0])  # most are minus
    torch.testing.assert_close(found[0], sign * expected)


def test_no_sign_is_elected_where_as_many_entries_are_plus_as_minus():
    one, two = {"w": torch.tensor([[3.0, 1.0, -1.0]])}, {"w": torch.tensor([[-3.0, 1.0, -1.0]])}
    found = ties([one, two], [0.5, 0.5], keep=1.0)["w"]
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0, -1.0]]))


def test_what_is_kept_is_counted_exactly():
    vector = {"w": torch.arange(1.0, 16.0).reshape(1, -1)}
    # 1 − 0.9 is 0.0999…, and 15 times that a little less than the 1.5 that is rounded to 2
    assert int((ties([vector], [1.0], keep=0.9)["w"] != 0).sum()) == 13


@pytest.mark.parametrize("kind", KINDS)
@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_ties_of_one_adapter_that_keeps_everything_is_that_adapter(kind, shape, seed):
    adapter = random_adapter(kind, shape, seed)
    base = random_base(adapter)
    close(OPERATORS["ties"]([adapter], [1.0], base, {"keep": 1.0}).deltas, deltas(adapter, base))


@pytest.mark.filterwarnings("ignore:The density 1.0")
@given(
    count=st.integers(1, 4),
    seed=st.integers(0, 99),
    keep=st.sampled_from((0.2, 0.5, 0.8, 1.0)),
)
@settings(max_examples=20, deadline=None)
def test_ties_is_pefts_where_trimming_is_per_layer_and_shares_are_equal(count, seed, keep):
    several = vectors(count, seed)
    mean = ties(several, [1 / count] * count, keep, "mean", 1.0, "layer")
    for name in several[0]:
        stack = [vector[name] for vector in several]
        reference = merge_utils.ties(stack, torch.ones(count), density=keep)
        torch.testing.assert_close(mean[name], reference)


@given(seed=st.integers(0, 99), keep=st.sampled_from((0.1, 0.25, 0.6)))
@settings(max_examples=10, deadline=None)
def test_global_trimming_is_that_of_the_flattened_vector(seed, keep):
    several = vectors(2, seed)
    # Layers of different size of entries: what is kept moves to the larger one.
    for vector in several:
        vector["layer.1.q"] *= 10
    flat = [
        {"all": torch.cat([m.flatten() for m in vector.values()]).reshape(1, -1)}
        for vector in several
    ]
    whole = ties(several, [0.5, 0.5], keep, scope="global")
    reference = ties(flat, [0.5, 0.5], keep, scope="layer")["all"]
    torch.testing.assert_close(
        torch.cat([matrix.flatten() for matrix in whole.values()]), reference.flatten()
    )
    by_layer = ties(several, [0.5, 0.5], keep, scope="layer")
    assert (by_layer["layer.0.q"] != 0).sum() > (whole["layer.0.q"] != 0).sum()


def test_task_arithmetic_is_pefts_and_the_ensemble_at_one_nth():
    several = vectors(3)
    summed = task_arithmetic(several, [1 / 3] * 3, 0.3)
    mean = task_arithmetic(several, [0.5, 0.3, 0.2], 1 / 3)
    for name in several[0]:
        stack = [vector[name] for vector in several]
        torch.testing.assert_close(
            summed[name], merge_utils.task_arithmetic(stack, torch.full((3,), 0.3))
        )
        torch.testing.assert_close(mean[name], 0.5 * stack[0] + 0.3 * stack[1] + 0.2 * stack[2])


@given(drop=st.sampled_from((0.1, 0.5, 0.9)), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_dare_drops_a_share_and_rescales_the_rest(drop, seed):
    several = vectors(2, seed, out=60, width=50)
    thinned = dare(several, drop, seed)
    for vector, thin in zip(several, thinned, strict=True):
        for name, matrix in vector.items():
            kept = thin[name] != 0
            torch.testing.assert_close(thin[name][kept], matrix[kept] / (1 - drop))
            # Six standard deviations of a binomial share of 3,000 entries.
            spread = 6 * (drop * (1 - drop) / matrix.numel()) ** 0.5
            assert abs(float((~kept).double().mean()) - drop) < spread
    masks = [thin[name] == 0 for thin in thinned for name in thin]
    assert all(not torch.equal(masks[0], mask) for mask in masks[1:])
    again = dare(several, drop, seed)
    assert all(torch.equal(a[n], b[n]) for a, b in zip(thinned, again, strict=True) for n in a)


def test_dare_is_the_ensemble_on_average():
    several = vectors(2)
    draws = [task_arithmetic(dare(several, 0.3, seed), [0.5, 0.5], 0.5) for seed in range(600)]
    for name in several[0]:
        mean = torch.stack([draw[name] for draw in draws]).mean(0)
        expected = (several[0][name] + several[1][name]) / 2
        squares = (several[0][name].square() + several[1][name].square()) / 4
        error = (squares * 0.3 / 0.7 / len(draws)).sqrt()
        assert ((mean - expected).abs() < 6 * error).all()


@pytest.mark.parametrize("name", ["dare", "dare-ties"])
def test_dare_without_dropping_is_its_inner_operator(name):
    adapters = [random_adapter("lora", (7, 6, 2), seed) for seed in range(3)]
    base, weights = random_base(adapters[0]), [0.5, 0.3, 0.2]
    inner = {"dare": "task-arithmetic", "dare-ties": "ties"}[name]
    chosen = {"dare": {"scale": 0.7}, "dare-ties": {"keep": 0.4, "reduce": "sum"}}[name]
    close(
        OPERATORS[name](adapters, weights, base, {**chosen, "drop": 0.0}).deltas,
        OPERATORS[inner](adapters, weights, base, chosen).deltas,
    )


def test_bad_settings_are_told():
    several = vectors(2)
    half = [0.5, 0.5]
    for keep in (0, 1.5, -1):
        with pytest.raises(CotoError, match=rf"ties: keep = {keep}: expected a number in \(0, 1\]"):
            ties(several, half, keep=keep)
    with pytest.raises(CotoError, match="reduce = 'max': expected mean or sum"):
        ties(several, half, reduce="max")
    with pytest.raises(CotoError, match="scope = 'tensor': expected one of global, layer"):
        ties(several, half, scope="tensor")
    for drop in (1.0, -0.1):
        with pytest.raises(CotoError, match=rf"dare: drop = {drop}: expected a number in \[0, 1\)"):
            dare(several, drop, 0)
    adapter = random_adapter("lora", (4, 4, 2), 0)
    with pytest.raises(CotoError, match="inner = 'knots': expected one of task-arithmetic, ties"):
        OPERATORS["dare"]([adapter], [1.0], random_base(adapter), {"inner": "knots"})
