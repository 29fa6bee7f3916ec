"""Weight changes as products of low rank: exactly by concatenation, or the nearest by SVD."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Deltas, Factors, LowRankAdapter, deltas
from coto.operators.merged import Merged


def concatenation(
    adapters: Sequence[LowRankAdapter], weights: Sequence[float]
) -> LowRankAdapter | None:
    """The adapter whose ΔW is Σ wᵢΔWᵢ exactly: factors side by side, of the sum of the ranks.

    Scalings and weights are folded into B. None for DoRA, whose ΔW is of full rank.
    """
    kind = adapters[0].kind
    if kind == "dora":
        return None
    folded = [w * (a.scaling if kind == "lora" else 1.0) for a, w in _pairs(adapters, weights)]
    modules = {
        name: Factors(
            a=torch.cat([adapter.modules[name].a for adapter in adapters]),
            b=torch.cat(
                [f * adapter.modules[name].b for adapter, f in _pairs(adapters, folded)], dim=1
            ),
        )
        for name in adapters[0].modules
    }
    return LowRankAdapter(kind, 1.0, modules, heads={})


def product_svd(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD (U, S, Vᵀ) of BA without forming it: by QR of B (out, n) and of Aᵀ (in, n)."""
    left, core_left = torch.linalg.qr(b)
    right, core_right = torch.linalg.qr(a.mT)
    u, s, vh = torch.linalg.svd(core_left @ core_right.mT, full_matrices=False)
    return left @ u, s, vh @ right.mT


def truncated(
    change: Deltas, rank: int, exact: LowRankAdapter | None = None
) -> tuple[LowRankAdapter, float]:
    """The LoRA adapter of rank `rank` that is nearest to ΔW in the Frobenius norm (Eckart–Young).

    Args:
        change: ΔW (out, in) by module name.
        rank: rank of every module's product; matrices smaller than that keep their own.
        exact: a LoRA adapter with this ΔW, if there is one: its factors make the SVD cheap.

    Returns:
        The adapter, with scaling 1, and its relative error ‖ΔW − BA‖ / ‖ΔW‖ over all modules.

    Raises:
        CotoError: if the rank is not positive.
    """
    if rank < 1:
        raise CotoError(f"rank = {rank}: expected 1 or more")
    modules, lost, total = {}, 0.0, 0.0
    for name, matrix in change.items():
        if exact is not None and exact.kind == "lora":
            factors = exact.modules[name]
            u, s, vh = product_svd(exact.scaling * factors.b, factors.a)
        else:
            u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        squares = s.double().square()
        lost, total = lost + float(squares[rank:].sum()), total + float(squares.sum())
        root = s[:rank].sqrt()
        modules[name] = Factors(a=root.unsqueeze(1) * vh[:rank], b=u[:, :rank] * root)
    error = (lost / total) ** 0.5 if total else 0.0
    return equal_ranks(LowRankAdapter("lora", 1.0, modules, heads={})), error


def finished(
    change: Deltas,
    exact: LowRankAdapter | None,
    rank: int | None,
    base: Mapping[str, Tensor],
) -> Merged:
    """A merge in the space of ΔW, brought back to a rank if one is asked for.

    Args:
        change: ΔW of the merge.
        exact: an adapter with exactly this ΔW, or None.
        rank: rank to bring it back to, or None to leave it; its error is reported.
        base: base weights by module name.
    """
    if rank is None:
        return Merged(change, exact)
    adapter, error = truncated(change, rank, exact)
    return Merged(deltas(adapter, base), adapter, {"svd_error": error})


def equal_ranks(adapter: LowRankAdapter) -> LowRankAdapter:
    """The same adapter, filled up with zeros to its largest rank: PEFT holds one rank for all."""
    rank = max((factors.rank for factors in adapter.modules.values()), default=0)
    modules = {}
    for name, factors in adapter.modules.items():
        missing = rank - factors.rank
        modules[name] = Factors(
            a=torch.nn.functional.pad(factors.a, (0, 0, 0, missing)),
            b=torch.nn.functional.pad(factors.b, (0, missing)),
            magnitude=factors.magnitude,
        )
    return LowRankAdapter(adapter.kind, adapter.scaling, modules, adapter.heads)


def _pairs(
    adapters: Sequence[LowRankAdapter], weights: Sequence[float]
) -> list[tuple[LowRankAdapter, float]]:
    return list(zip(adapters, weights, strict=True))
