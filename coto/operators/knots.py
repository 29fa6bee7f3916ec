"""KnOTS (Stoica et al. 2025): merge in a basis that the adapters share.

The SVD of the weight changes side by side, [ΔW₁ … ΔWₙ] = U S [V₁ᵀ … Vₙᵀ], writes all of them in one
output basis U. Their coordinates S·Vᵢᵀ are merged entry by entry, and U brings the result back.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from coto.operators.adapter import Deltas, Factors, LowRankAdapter, deltas
from coto.operators.merge import check_mergeable
from coto.operators.merged import Merged
from coto.operators.operator import Inner, Reduce
from coto.operators.sparse import dare, inner_merge
from coto.operators.svd import equal_ranks, finished


def shared_basis(
    adapters: Sequence[LowRankAdapter], base: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[Deltas]]:
    """U (out, k) by module, and each adapter's coordinates S·Vᵢᵀ (k, in), so that U·SVᵢᵀ = ΔWᵢ.

    k is the rank of [ΔW₁ … ΔWₙ]: directions whose singular value is rounding error are left out.
    """
    bases: dict[str, Tensor] = {}
    coordinates: list[Deltas] = [{} for _ in adapters]
    changes = None if adapters[0].kind == "lora" else [deltas(a, base) for a in adapters]
    for name in adapters[0].modules:
        if changes is None:
            u, parts = _from_factors(adapters, name)
        else:
            u, parts = _split_svd(torch.cat([c[name] for c in changes], dim=1), len(adapters))
        bases[name] = u
        for coordinate, part in zip(coordinates, parts, strict=True):
            coordinate[name] = part
    return bases, coordinates


def merge_knots(
    adapters: Sequence[LowRankAdapter],
    weights: Sequence[float],
    base: Mapping[str, Tensor],
    *,
    inner: Inner,
    keep: float,
    reduce: Reduce,
    scale: float,
    drop: float,
    seed: int,
    rank: int | None,
) -> Merged:
    """TIES or task arithmetic of the coordinates, after DARE if `drop` is not 0.

    For LoRA the result is an adapter of the sum of the ranks, with U as its B.
    """
    check_mergeable(adapters, weights)
    bases, coordinates = shared_basis(adapters, base)
    if drop:
        coordinates = dare(coordinates, drop, seed)
    merged = inner_merge(coordinates, weights, inner, keep, reduce, scale)
    change = {name: bases[name] @ merged[name] for name in bases}
    exact = None
    if adapters[0].kind == "lora":
        factors = {name: Factors(a=merged[name], b=bases[name]) for name in bases}
        exact = equal_ranks(LowRankAdapter("lora", 1.0, factors, heads={}))
    return finished(change, exact, rank, base)


def _from_factors(adapters: Sequence[LowRankAdapter], name: str) -> tuple[Tensor, list[Tensor]]:
    """The SVD of [s₁B₁A₁ … sₙBₙAₙ] through its core of the size of the ranks' sum."""
    factors = [adapter.modules[name] for adapter in adapters]
    dtype = factors[0].a.dtype
    b = torch.cat([a.scaling * f.b.double() for a, f in zip(adapters, factors, strict=True)], 1)
    left, core = torch.linalg.qr(b)
    rights, inner = zip(*(torch.linalg.qr(f.a.double().mT) for f in factors), strict=True)
    sizes = [part.shape[0] for part in inner]
    u, s, vh = torch.linalg.svd(
        core @ torch.block_diag(*[part.mT for part in inner]), full_matrices=False
    )
    k = _rank(s, dtype, max(b.shape[0], sum(f.a.shape[1] for f in factors)))
    coordinates = (s[:k, None] * vh[:k]).split(sizes, dim=1)
    parts = [(c @ right.mT).to(dtype) for c, right in zip(coordinates, rights, strict=True)]
    return (left @ u[:, :k]).to(dtype), parts


def _split_svd(matrix: Tensor, count: int) -> tuple[Tensor, list[Tensor]]:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    k = _rank(s, matrix.dtype, max(matrix.shape))
    return u[:, :k], list((s[:k, None] * vh[:k]).chunk(count, dim=1))


def _rank(singular: Tensor, dtype: torch.dtype, size: int) -> int:
    tolerance = singular.max() * size * torch.finfo(dtype).eps
    return max(1, int((singular > tolerance).sum()))
