"""Unstructured pruning: how many entries go, which ones, and PyTorch's own pruning beside it."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils import merge_utils
from random_adapters import KINDS, close, random_adapter, random_base, shapes
from torch import nn
from torch.nn.utils import prune as reference

from coto.adapters.delta import LowRankAdapter, deltas
from coto.errors import CotoError
from coto.operators.operator import PRUNING
from coto.operators.prune import kept_entries, prune_deltas, prune_factors

WAYS = list(itertools.product(("global", "layer"), ("magnitude", "random")))


def entries(adapter: LowRankAdapter) -> dict[str, torch.Tensor]:
    return {
        f"{n}.{part}": getattr(f, part) for n, f in adapter.modules.items() for part in ("a", "b")
    }


@pytest.mark.parametrize(("scope", "criterion"), WAYS)
@given(shape=shapes, seed=st.integers(0, 99), sparsity=st.floats(0, 0.99))
@settings(max_examples=15, deadline=None)
def test_exactly_that_share_goes_and_the_rest_is_untouched(scope, criterion, shape, seed, sparsity):
    adapter = random_adapter("lora", shape, seed)
    before, after = entries(adapter), entries(prune_factors(adapter, sparsity, scope, criterion))
    if scope == "global":
        gone = sum(int((tensor == 0).sum()) for tensor in after.values())
        assert gone == round(sparsity * sum(tensor.numel() for tensor in before.values()))
    else:
        for name, tensor in after.items():
            assert int((tensor == 0).sum()) == round(sparsity * before[name].numel())
    for name, tensor in after.items():
        assert torch.equal(tensor[tensor != 0], before[name][tensor != 0])


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.95])
def test_magnitudes_are_pytorchs(scope, sparsity):
    adapter = random_adapter("lora", (8, 6, 3), 1)
    modules = []
    for tensor in entries(adapter).values():
        module = nn.Module()
        module.weight = nn.Parameter(tensor.clone())
        modules.append((module, "weight"))
    if scope == "global":
        reference.global_unstructured(modules, reference.L1Unstructured, amount=sparsity)
    else:
        for module, name in modules:
            reference.l1_unstructured(module, name, amount=sparsity)
    ours = entries(prune_factors(adapter, sparsity, scope)).values()
    for (module, _), tensor in zip(modules, ours, strict=True):
        torch.testing.assert_close(tensor, module.weight.detach())


def test_changes_are_pruned_as_peft_prunes_them():
    adapter = random_adapter("hira", (8, 5, 3), 1)
    change = deltas(adapter, random_base(adapter))
    pruned = prune_deltas(change, 0.75, "layer")
    for name, matrix in change.items():
        torch.testing.assert_close(
            pruned[name], merge_utils.magnitude_based_pruning(matrix, density=0.25)
        )


@pytest.mark.parametrize(("scope", "criterion"), WAYS)
def test_what_is_gone_stays_gone_at_a_larger_sparsity(scope, criterion):
    tensors = entries(random_adapter("lora", (9, 7, 3), 2))
    kept = [
        kept_entries(tensors, sparsity, scope, criterion, seed=3)
        for sparsity in (0, 0.2, 0.5, 0.9, 0.95)
    ]
    assert all(mask.all() for mask in kept[0].values())
    for less, more in itertools.pairwise(kept):
        assert all((less[name] | ~more[name]).all() for name in tensors)


def test_scopes_differ_where_layers_do():
    change = {"small": torch.rand(10, 10) + 1, "large": torch.rand(10, 10) + 10}
    whole, each = prune_deltas(change, 0.5), prune_deltas(change, 0.5, "layer")
    assert not whole["small"].any()
    assert whole["large"].all()
    assert all(int((matrix != 0).sum()) == 50 for matrix in each.values())


def test_random_entries_follow_the_seed_and_not_the_magnitude():
    tensors = {"w": torch.arange(1.0, 10001).reshape(100, 100)}
    first, again, other = (
        kept_entries(tensors, 0.5, "global", "random", seed)["w"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert 0.4 < (first == other).double().mean() < 0.6
    # The mean of 5,000 of the numbers 1…10,000, within six standard errors.
    assert abs(float(tensors["w"][first].mean()) - 5000.5) < 6 * 2887 / (2 * 5000) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_heads_scaling_and_magnitudes(kind):
    adapter = random_adapter(kind, (6, 5, 2), 0)
    base = random_base(adapter)
    close(deltas(prune_factors(adapter, 0), base), deltas(adapter, base))
    pruned = prune_factors(adapter, 0.9)
    assert pruned.scaling == adapter.scaling
    assert pruned.heads is adapter.heads
    for name, factors in pruned.modules.items():
        assert factors.magnitude is adapter.modules[name].magnitude


def test_methods_by_name_do_what_their_name_says():
    adapter = random_adapter("dora", (6, 5, 2), 0)
    base = random_base(adapter)
    change = deltas(adapter, base)
    assert list(PRUNING) == [
        "magnitude-factors-global",
        "magnitude-factors-layer",
        "random-factors-global",
        "magnitude-delta-global",
        "magnitude-delta-layer",
        "random-delta-global",
    ]
    for name, method in PRUNING.items():
        criterion, entries_of, scope = name.split("-")
        how = (0.6, scope, criterion, 3)
        if entries_of == "factors":
            expected = deltas(prune_factors(adapter, *how), base)
        else:
            expected = prune_deltas(change, *how)
        close(method(adapter, change, base, 0.6, 3), expected, rtol=0, atol=0)
        close(method(adapter, change, base, 0.0, 3), change)
        assert method.draws == (criterion == "random")
        assert method.summary


def test_equal_entries_still_go_in_the_right_number():
    tensors = {"w": torch.ones(4, 5), "v": torch.zeros(3)}
    kept = kept_entries(tensors, 0.5)
    assert not kept["v"].any()
    assert int(kept["w"].sum()) == 23 - 12
    assert kept["w"].flatten()[-11:].all()


def test_bad_input_is_told():
    adapter = random_adapter("lora", (4, 4, 2), 0)
    for sparsity in (1, -0.1, 2):
        with pytest.raises(CotoError, match=rf"sparsity = {sparsity}: expected a number in \[0, 1"):
            prune_factors(adapter, sparsity)
    with pytest.raises(CotoError, match="scope = 'tensor': expected one of global, layer"):
        prune_factors(adapter, 0.5, "tensor")
    with pytest.raises(
        CotoError, match="criterion = 'gradient': expected one of magnitude, random"
    ):
        prune_factors(adapter, 0.5, "global", "gradient")
