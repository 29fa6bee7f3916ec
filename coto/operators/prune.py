"""Unstructured pruning: entries of A and B, or of ΔW, are set to zero."""

import hashlib
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor

from coto.adapters.delta import Base, Deltas, LowRankAdapter, deltas
from coto.errors import CotoError
from coto.method.schedule import count_of
from coto.operators.operator import Criterion, Scope, pruning


@pruning("magnitude-factors-global", space="factors", criterion="magnitude", scope="global")
@pruning("magnitude-factors-layer", space="factors", criterion="magnitude", scope="layer")
@pruning("random-factors-global", space="factors", draws=True, criterion="random", scope="global")
def sparse_factors(
    adapter: LowRankAdapter, change: Deltas, base: Base, sparsity: float, repeat: int, **how: Any
) -> Deltas:
    """Entries of A and B are set to zero."""
    return deltas(prune_factors(adapter, sparsity, seed=repeat, **how), base)


@pruning("magnitude-delta-global", space="delta", criterion="magnitude", scope="global")
@pruning("magnitude-delta-layer", space="delta", criterion="magnitude", scope="layer")
@pruning("random-delta-global", space="delta", draws=True, criterion="random", scope="global")
def sparse_change(
    adapter: LowRankAdapter, change: Deltas, base: Base, sparsity: float, repeat: int, **how: Any
) -> Deltas:
    """Entries of ΔW are set to zero."""
    return prune_deltas(change, sparsity, seed=repeat, **how)


def prune_factors(
    adapter: LowRankAdapter, sparsity: float, *how: Any, **named: Any
) -> LowRankAdapter:
    """The adapter with entries of A and B set to zero, each a tensor of :func:`kept_entries`."""
    entries: Deltas = {}
    for name, factors in adapter.modules.items():
        entries |= {f"{name}.a": factors.a, f"{name}.b": factors.b}
    pruned = prune_deltas(entries, sparsity, *how, **named)
    modules = {
        name: replace(factors, a=pruned[f"{name}.a"], b=pruned[f"{name}.b"])
        for name, factors in adapter.modules.items()
    }
    return replace(adapter, modules=modules)


def prune_deltas(change: Deltas, sparsity: float, *how: Any, **named: Any) -> Deltas:
    """ΔW with a share of its entries set to zero; arguments as for :func:`kept_entries`."""
    kept = kept_entries(change, sparsity, *how, **named)
    return {name: matrix * kept[name] for name, matrix in change.items()}


def kept_entries(
    tensors: Base,
    sparsity: float,
    scope: Scope = "global",
    criterion: Criterion = "magnitude",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Which entries stay, as booleans of the tensors' shapes.

    Exactly round(sparsity · entries) go, of all tensors together or of each by itself (``layer``):
    the smallest, of equal entries those that come first; or random ones, by the seed. CotoError if
    an argument is out of its range.
    """
    if not 0 <= sparsity < 1:
        raise CotoError(f"sparsity = {sparsity}: expected a number in [0, 1)")
    for key, value, known in (("scope", scope, Scope), ("criterion", criterion, Criterion)):
        if value not in get_args(known):
            raise CotoError(f"{key} = {value!r}: expected one of {', '.join(get_args(known))}")
    scores = [
        (tensor.abs() if criterion == "magnitude" else uniform(tensor, seed, name)).flatten()
        for name, tensor in tensors.items()
    ]
    if scope == "layer" or not scores:
        kept = [_above(score, sparsity) for score in scores]
    else:
        kept = list(_above(torch.cat(scores), sparsity).split([len(score) for score in scores]))
    pairs = zip(tensors.items(), kept, strict=True)
    return {name: part.reshape(tensor.shape) for (name, tensor), part in pairs}


def uniform(tensor: Tensor, *key: object) -> Tensor:
    """Uniform numbers of a tensor's shape, the same on every device for the same key."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.rand(tensor.shape, generator=generator).to(tensor.device)


def _above(scores: Tensor, sparsity: float) -> Tensor:
    """All but the round(sparsity · n) smallest of n scores, as booleans."""
    count = count_of(sparsity, scores.numel(), nearest=True)
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    # A threshold is much cheaper than a sort of all entries; ties at it are settled by position.
    threshold = scores.kthvalue(count).values
    kept = scores > threshold
    ties = (scores == threshold).nonzero().flatten()
    below = scores.numel() - int(kept.sum()) - ties.numel()
    kept[ties[count - below :]] = True
    return kept
