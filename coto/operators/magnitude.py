"""Unstructured pruning: single entries of an adapter's factors, or of ΔW, are set to zero.

Entries are ranked by magnitude or at random, over the whole model (``global``) or in every matrix
by itself (``layer``). At one seed, what a sparsity removes stays removed at any larger one. DoRA's
magnitudes m are never pruned: zero would remove the base weight's row with them.
"""

import hashlib
from collections.abc import Mapping
from typing import get_args

import torch
from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Deltas, Factors, LowRankAdapter
from coto.operators.operator import Criterion, Scope


def prune_factors(
    adapter: LowRankAdapter,
    sparsity: float,
    scope: Scope = "global",
    criterion: Criterion = "magnitude",
    seed: int = 0,
) -> LowRankAdapter:
    """The adapter with a share of the entries of A and B set to zero; heads stay.

    Args:
        adapter: the adapter.
        sparsity: share of entries to remove, in [0, 1).
        scope: rank the entries of all A and B together, or of each A and each B by itself.
        criterion: remove the smallest entries, or random ones.
        seed: of the random choice; unused for magnitudes.

    Raises:
        CotoError: if an argument is out of its range.
    """
    tensors = {
        (name, part): tensor
        for name, factors in adapter.modules.items()
        for part, tensor in (("a", factors.a), ("b", factors.b))
    }
    flat = {f"{name}.{part}": tensor for (name, part), tensor in tensors.items()}
    kept = kept_entries(flat, sparsity, scope, criterion, seed)
    modules = {
        name: Factors(
            a=factors.a * kept[f"{name}.a"],
            b=factors.b * kept[f"{name}.b"],
            magnitude=factors.magnitude,
        )
        for name, factors in adapter.modules.items()
    }
    return LowRankAdapter(adapter.kind, adapter.scaling, modules, adapter.heads)


def prune_deltas(
    change: Deltas,
    sparsity: float,
    scope: Scope = "global",
    criterion: Criterion = "magnitude",
    seed: int = 0,
) -> Deltas:
    """ΔW with a share of its entries set to zero; arguments as :func:`prune_factors`."""
    kept = kept_entries(change, sparsity, scope, criterion, seed)
    return {name: matrix * kept[name] for name, matrix in change.items()}


def kept_entries(
    tensors: Mapping[str, Tensor],
    sparsity: float,
    scope: Scope = "global",
    criterion: Criterion = "magnitude",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Which entries stay, as booleans of the tensors' shapes.

    Exactly round(sparsity · entries) go, in the whole or in each tensor: of equal entries, those
    that come first.
    """
    if not 0 <= sparsity < 1:
        raise CotoError(f"sparsity = {sparsity}: expected a number in [0, 1)")
    for key, value, known in (("scope", scope, Scope), ("criterion", criterion, Criterion)):
        if value not in get_args(known):
            raise CotoError(f"{key} = {value!r}: expected one of {', '.join(get_args(known))}")
    if criterion == "magnitude":
        scores = {name: tensor.abs() for name, tensor in tensors.items()}
    else:
        scores = {name: uniform(tensor, seed, name) for name, tensor in tensors.items()}
    if scope == "layer":
        return {
            name: _above(score.flatten(), sparsity).reshape(score.shape)
            for name, score in scores.items()
        }
    if not scores:
        return {}
    kept = _above(torch.cat([score.flatten() for score in scores.values()]), sparsity)
    parts = kept.split([score.numel() for score in scores.values()])
    return {
        name: part.reshape(score.shape)
        for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def uniform(tensor: Tensor, *key: object) -> Tensor:
    """Uniform numbers of a tensor's shape, drawn on the CPU: the same on every device.

    Args:
        tensor: gives shape and device.
        key: what the numbers depend on, such as a seed and a module's name.
    """
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.rand(tensor.shape, generator=generator).to(tensor.device)


def _above(scores: Tensor, sparsity: float) -> Tensor:
    """All but the round(sparsity · n) smallest of n scores, as booleans."""
    count = round(sparsity * scores.numel())
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    # A threshold is much cheaper than a sort of all entries; ties at it are settled by position.
    threshold = scores.kthvalue(count).values
    kept = scores > threshold
    ties = (scores == threshold).nonzero().flatten()
    below = scores.numel() - int(kept.sum()) - ties.numel()
    kept[ties[count - below :]] = True
    return kept
