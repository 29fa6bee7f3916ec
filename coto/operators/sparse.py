"""Task arithmetic, TIES, DARE and KnOTS: merging in the space of ΔW, entry by entry.

They act on *vectors*, matrices by module per adapter: ΔW, or (KnOTS) its coordinates in a shared
basis. Weights are shares; an operator that sums gives adapter i the factor n·wᵢ, so that `scale` is
the λ of the literature. A negative weight subtracts a task, also in the election of signs.
"""

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from coto.adapters.delta import Adapters, Base, Deltas, Factors, LowRankAdapter, deltas, equal_ranks
from coto.adapters.kinds import KINDS
from coto.errors import CotoError
from coto.operators import merge
from coto.operators.operator import Inner, Reduce, Scope, operator
from coto.operators.prune import kept_entries, uniform


def task_arithmetic(vectors: Sequence[Deltas], weights: Sequence[float], scale: float) -> Deltas:
    """λ Σ (n·wᵢ) ΔWᵢ (Ilharco et al. 2023); with λ = 1/n the ensemble."""
    return merge.combined(vectors, summed(weights, scale))


def ties(
    vectors: Sequence[Deltas],
    weights: Sequence[float],
    keep: float = 0.2,
    reduce: Reduce = "mean",
    scale: float = 1.0,
    scope: Scope = "global",
) -> Deltas:
    """Trim, elect signs, merge what agrees (TIES, Yadav et al. 2023).

    Every adapter keeps its `keep` largest entries, of the whole model or (PEFT) of each matrix. The
    sign of an entry is that of Σ wᵢΔWᵢ over what was kept; where that is exactly zero, the sign
    that most entries of the model have, as in the authors' code (none, and the entry is left out,
    if as many are plus as minus). Entries of that sign are averaged, with weights |wᵢ|, or summed
    with factors n·|wᵢ|; `scale` is λ on the result. CotoError if an argument is out of its range.
    """
    if not 0 < keep <= 1:
        raise CotoError(f"ties: keep = {keep}: expected a number in (0, 1]")
    if reduce not in get_args(Reduce):
        raise CotoError(f"ties: reduce = {reduce!r}: expected mean or sum")
    # Rounded, for 1 − 0.9 is 0.0999…
    masks = [kept_entries(vector, round(1 - keep, 12), scope) for vector in vectors]
    trios = list(zip(vectors, masks, weights, strict=True))

    def values_of(name: str) -> Tensor:
        return torch.stack([w * v[name] * m[name] for v, m, w in trios])

    signs = {name: values_of(name).sum(0).sign() for name in vectors[0]}
    majority = sum(int(sign.sum(dtype=torch.float64)) for sign in signs.values())
    majority = (majority > 0) - (majority < 0)
    merged = {}
    for name, sign in signs.items():
        values = values_of(name)
        agrees = values.sign() == torch.where(sign == 0, majority, sign)
        total = (values * agrees).sum(0)
        if reduce == "sum":
            merged[name] = scale * len(vectors) * total
        else:
            share = torch.tensor(weights, dtype=values.dtype, device=values.device).abs()
            shares = (share.view(-1, 1, 1) * agrees).sum(0)
            merged[name] = scale * torch.where(shares > 0, total / shares, 0)
    return merged


def dare(vectors: Sequence[Deltas], drop: float, seed: int) -> list[Deltas]:
    """Drop entries with chance p = `drop` and rescale the rest by 1/(1−p) (DARE, Yu et al. 2024).

    Every adapter draws its own mask, by its position. CotoError if p is not in [0, 1).
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
    scale: float,
    inner: Inner = "ties",
    drop: float = 0.0,
    seed: int = 0,
    **how: Any,
) -> Deltas:
    """:func:`dare` if `drop` is not 0, then task arithmetic or :func:`ties`, by name."""
    if drop:
        vectors = dare(vectors, drop, seed)
    if inner == "task-arithmetic":
        return task_arithmetic(vectors, weights, scale)
    if inner == "ties":
        return ties(vectors, weights, scale=scale, **how)
    raise CotoError(f"inner = {inner!r}: expected one of {', '.join(get_args(Inner))}")


def summed(weights: Sequence[float], scale: float) -> list[float]:
    """The factors λ·n·wᵢ of a sum."""
    return [scale * len(weights) * weight for weight in weights]


@operator("task-arithmetic", space="delta", order=5, settings={"scale": 0.3, "rank": None})
def merge_task_arithmetic(
    adapters: Adapters, weights: Sequence[float], base: Base, *, scale: float, rank: int | None
) -> merge.Merged:
    """λ times the sum of ΔW.

    For LoRA and HiRA the result is an adapter of the sum of the ranks.
    """
    change = task_arithmetic(merge.changes_of(adapters, weights, base), weights, scale)
    return merge.finished(change, merge.concatenation(adapters, summed(weights, scale)), rank, base)


@operator(
    "ties",
    space="delta",
    order=6,
    settings={"keep": 0.2, "reduce": "mean", "scale": 1.0, "scope": "global", "rank": None},
    summary="ΔW trimmed to its largest entries, signs elected, agreeing entries merged",
)
@operator(
    "dare",
    space="delta",
    order=7,
    settings={
        "keep": 0.2,
        "reduce": "mean",
        "scale": 0.3,
        "scope": "global",
        "drop": 0.5,
        "seed": 0,
        "inner": "task-arithmetic",
        "rank": None,
    },
    summary="entries of ΔW dropped at random, the rest rescaled and added",
)
@operator(
    "dare-ties",
    space="delta",
    order=8,
    settings={
        "keep": 1.0,
        "reduce": "mean",
        "scale": 1.0,
        "scope": "global",
        "drop": 0.5,
        "seed": 0,
        "inner": "ties",
        "rank": None,
    },
    summary="entries of ΔW dropped at random, the rest rescaled and merged by TIES",
)
def merge_sparse(
    adapters: Adapters, weights: Sequence[float], base: Base, *, rank: int | None, **how: Any
) -> merge.Merged:
    """:func:`inner_merge` of ΔW."""
    change = inner_merge(merge.changes_of(adapters, weights, base), weights, **how)
    return merge.finished(change, None, rank, base)


def shared_basis(adapters: Adapters, base: Base) -> tuple[dict[str, Tensor], list[Deltas]]:
    """The basis of KnOTS (Stoica et al. 2025), from the SVD [ΔW₁ … ΔWₙ] = U S [V₁ᵀ … Vₙᵀ].

    U (out, k) by module, and each adapter's coordinates S·Vᵢᵀ (k, in), so that U·SVᵢᵀ = ΔWᵢ; k is
    the rank of [ΔW₁ … ΔWₙ], but for singular values that are rounding error.
    """
    bases: dict[str, Tensor] = {}
    coordinates: list[Deltas] = [{} for _ in adapters]
    plain = KINDS[adapters[0].kind].product == "plain"
    changes = [] if plain else [deltas(adapter, base) for adapter in adapters]
    for name in adapters[0].modules:
        if plain:
            bases[name], parts = _from_factors(adapters, name)
        else:
            bases[name], parts = _split_svd([change[name] for change in changes])
        for coordinate, part in zip(coordinates, parts, strict=True):
            coordinate[name] = part
    return bases, coordinates


@operator(
    "knots",
    space="delta",
    order=9,
    settings={
        "inner": "ties",
        "keep": 0.2,
        "reduce": "mean",
        "scale": 1.0,
        "drop": 0.0,
        "seed": 0,
        "rank": None,
    },
)
def merge_knots(
    adapters: Adapters, weights: Sequence[float], base: Base, *, rank: int | None, **how: Any
) -> merge.Merged:
    """TIES of the coordinates of ΔW in a basis that the adapters share.

    Or task arithmetic (`inner`), after DARE if `drop` is not 0. For LoRA the result is an adapter
    of the sum of the ranks, with U as its B.
    """
    merge.check_mergeable(adapters, weights)
    bases, coordinates = shared_basis(adapters, base)
    merged = inner_merge(coordinates, weights, **how)
    change = {name: bases[name] @ merged[name] for name in bases}
    exact = None
    if KINDS[adapters[0].kind].product == "plain":
        factors = {name: Factors(a=merged[name], b=bases[name]) for name in bases}
        exact = equal_ranks(LowRankAdapter("lora", 1.0, factors, heads={}))
    return merge.finished(change, exact, rank, base)


def _from_factors(adapters: Adapters, name: str) -> tuple[Tensor, list[Tensor]]:
    """The SVD of [s₁B₁A₁ … sₙBₙAₙ] through its core of the size of the ranks' sum."""
    factors = [adapter.modules[name] for adapter in adapters]
    dtype = factors[0].a.dtype
    b = torch.cat([a.scale * f.b.double() for a, f in zip(adapters, factors, strict=True)], 1)
    left, core = torch.linalg.qr(b)
    rights, inner = zip(*(torch.linalg.qr(f.a.double().mT) for f in factors), strict=True)
    sizes = [part.shape[0] for part in inner]
    core = core @ torch.block_diag(*[part.mT for part in inner])
    u, s, vh = torch.linalg.svd(core, full_matrices=False)
    k = _rank(s, dtype, max(b.shape[0], sum(f.a.shape[1] for f in factors)))
    coordinates = (s[:k, None] * vh[:k]).split(sizes, dim=1)
    parts = [(c @ right.mT).to(dtype) for c, right in zip(coordinates, rights, strict=True)]
    return (left @ u[:, :k]).to(dtype), parts


def _split_svd(changes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    matrix = torch.cat(changes, dim=1)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    k = _rank(s, matrix.dtype, max(matrix.shape))
    return u[:, :k], list((s[:k, None] * vh[:k]).chunk(len(changes), dim=1))


def _rank(singular: Tensor, dtype: torch.dtype, size: int) -> int:
    tolerance = singular.max() * size * torch.finfo(dtype).eps
    return max(1, int((singular > tolerance).sum()))
