"""Task arithmetic, TIES and DARE: merging in the space of ΔW, entry by entry.

They act on *vectors*, one dictionary of matrices per adapter: ΔW by module, or (KnOTS) its
coordinates in a shared basis. Weights are the adapters' shares, 1/n each by default. An operator
that sums gives adapter i the factor n·wᵢ, so that equal shares are the plain sum of the literature
and its λ (here `scale`) means the same. A negative weight subtracts a task; its vector enters the
election of signs with the sign it is added with.
"""

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Deltas, LowRankAdapter, deltas
from coto.operators.magnitude import kept_entries, uniform
from coto.operators.merge import check_mergeable, weighted_sum
from coto.operators.merged import Merged
from coto.operators.operator import Inner, Reduce, Scope
from coto.operators.svd import concatenation, finished


def task_arithmetic(vectors: Sequence[Deltas], weights: Sequence[float], scale: float) -> Deltas:
    """λ Σ (n·wᵢ) ΔWᵢ (Ilharco et al. 2023); with λ = 1/n the ensemble."""
    factors = summed(weights, scale)
    return {name: weighted_sum([v[name] for v in vectors], factors) for name in vectors[0]}


def ties(
    vectors: Sequence[Deltas],
    weights: Sequence[float],
    keep: float = 0.2,
    reduce: Reduce = "mean",
    scale: float = 1.0,
    scope: Scope = "global",
) -> Deltas:
    """Trim, elect signs, merge what agrees (TIES, Yadav et al. 2023).

    Every adapter keeps its `keep` largest entries. The sign of an entry is that of Σ wᵢΔWᵢ over
    what was kept, plus where that is zero (as PEFT does). Entries of that sign are averaged, with
    weights |wᵢ| over those that agree, or summed with factors n·|wᵢ|; the others are left out.

    Args:
        vectors: one per adapter.
        weights: the adapters' shares; an adapter with weight 0 takes no part.
        keep: share of entries to keep, in (0, 1].
        reduce: ``mean`` or ``sum`` of the entries that agree.
        scale: λ on the result.
        scope: trim over the whole model, or each matrix by itself (as PEFT does).

    Raises:
        CotoError: if an argument is out of its range.
    """
    if not 0 < keep <= 1:
        raise CotoError(f"ties: keep = {keep}: expected a number in (0, 1]")
    if reduce not in get_args(Reduce):
        raise CotoError(f"ties: reduce = {reduce!r}: expected mean or sum")
    masks = [kept_entries(vector, 1 - keep, scope) for vector in vectors]
    count = len(vectors)
    merged = {}
    for name in vectors[0]:
        values = torch.stack(
            [w * v[name] * m[name] for v, m, w in zip(vectors, masks, weights, strict=True)]
        )
        elected = torch.where(values.sum(0) >= 0, 1, -1)
        agrees = values.sign() == elected
        total = (values * agrees).sum(0)
        if reduce == "sum":
            merged[name] = scale * count * total
        else:
            share = torch.tensor(weights, dtype=values.dtype, device=values.device).abs()
            shares = (share.view(-1, 1, 1) * agrees).sum(0)
            merged[name] = scale * torch.where(shares > 0, total / shares, 0)
    return merged


def dare(vectors: Sequence[Deltas], drop: float, seed: int) -> list[Deltas]:
    """Drop entries at random and rescale the rest by 1/(1−p) (DARE, Yu et al. 2024).

    Every adapter draws its own mask, by its position in the sequence: only the expected result is
    independent of the order.

    Args:
        vectors: one per adapter.
        drop: p, the probability of each entry to be dropped, in [0, 1).
        seed: of the masks.

    Raises:
        CotoError: if p is out of range.
    """
    if not 0 <= drop < 1:
        raise CotoError(f"dare: drop = {drop}: expected a number in [0, 1)")
    return [
        {
            name: matrix * (uniform(matrix, seed, index, name) >= drop) / (1 - drop)
            for name, matrix in vector.items()
        }
        for index, vector in enumerate(vectors)
    ]


def inner_merge(
    vectors: Sequence[Deltas],
    weights: Sequence[float],
    inner: Inner,
    keep: float,
    reduce: Reduce,
    scale: float,
    scope: Scope = "global",
) -> Deltas:
    """Task arithmetic or TIES by name: what DARE and KnOTS hand their vectors to.

    Raises:
        CotoError: if the name is unknown, or as :func:`ties`.
    """
    if inner == "task-arithmetic":
        return task_arithmetic(vectors, weights, scale)
    if inner == "ties":
        return ties(vectors, weights, keep, reduce, scale, scope)
    raise CotoError(f"inner = {inner!r}: expected one of {', '.join(get_args(Inner))}")


def summed(weights: Sequence[float], scale: float) -> list[float]:
    """The factors λ·n·wᵢ of a sum."""
    return [scale * len(weights) * weight for weight in weights]


def merge_task_arithmetic(
    adapters: Sequence[LowRankAdapter],
    weights: Sequence[float],
    base: Mapping[str, Tensor],
    *,
    scale: float,
    rank: int | None,
) -> Merged:
    """:func:`task_arithmetic`; exact as an adapter of the sum of the ranks (LoRA, HiRA)."""
    change = task_arithmetic(_vectors(adapters, weights, base), weights, scale)
    return finished(change, concatenation(adapters, summed(weights, scale)), rank, base)


def merge_ties(
    adapters: Sequence[LowRankAdapter],
    weights: Sequence[float],
    base: Mapping[str, Tensor],
    *,
    keep: float,
    reduce: Reduce,
    scale: float,
    scope: Scope,
    rank: int | None,
) -> Merged:
    """:func:`ties` of ΔW."""
    vectors = _vectors(adapters, weights, base)
    return finished(ties(vectors, weights, keep, reduce, scale, scope), None, rank, base)


def merge_dare(
    adapters: Sequence[LowRankAdapter],
    weights: Sequence[float],
    base: Mapping[str, Tensor],
    *,
    drop: float,
    seed: int,
    inner: Inner,
    keep: float,
    reduce: Reduce,
    scale: float,
    scope: Scope,
    rank: int | None,
) -> Merged:
    """:func:`dare` of ΔW, then task arithmetic or TIES."""
    vectors = dare(_vectors(adapters, weights, base), drop, seed)
    change = inner_merge(vectors, weights, inner, keep, reduce, scale, scope)
    return finished(change, None, rank, base)


def _vectors(
    adapters: Sequence[LowRankAdapter], weights: Sequence[float], base: Mapping[str, Tensor]
) -> list[Deltas]:
    check_mergeable(adapters, weights)
    return [deltas(adapter, base) for adapter in adapters]
