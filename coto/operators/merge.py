"""Merging of adapters, in factor space or in the space of weight changes.

*Fusion* averages A and B separately, *ensemble* averages ΔW = BA: for two adapters with weights
1−λ and λ, ensemble − fusion = s·λ(1−λ)(B₁−B₂)(A₁−A₂). Heads are averaged the same way in both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from torch import Tensor

from coto.adapters.delta import Adapters, Base, Deltas, Factors, LowRankAdapter, deltas, equal_ranks
from coto.adapters.kinds import KINDS
from coto.errors import CotoError
from coto.operators.operator import operator


@dataclass(frozen=True)
class Merged:
    """ΔW of a merge, and the same as an adapter, where it is of low rank; without heads.

    `report` has what the operator measured on its way, `modules` the same for each module.
    """

    deltas: Deltas
    adapter: LowRankAdapter | None = None
    report: Mapping[str, float] = field(default_factory=dict)
    modules: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def fusion(adapters: Adapters, weights: Sequence[float]) -> LowRankAdapter:
    """Ā = Σ wᵢAᵢ and B̄ = Σ wᵢBᵢ, and likewise DoRA's magnitudes: an adapter of the same rank.

    The *fusion* of LoraRetriever (Zhao et al. 2024), without heads (:func:`average_heads`). Weights
    may be negative and need not add up to 1. CotoError if kinds, modules, ranks or scalings differ
    (:func:`same_scaling` makes these equal), or the kind has no A and B.
    """
    check_mergeable(adapters, weights)
    first = adapters[0]
    if not KINDS[first.kind].low_rank:
        raise CotoError(f"fusion: not defined for {first.kind}: it has no factors A and B")
    for adapter in adapters[1:]:
        if adapter.scaling != first.scaling:
            raise CotoError(
                f"fusion: scalings {first.scaling} and {adapter.scaling}: expected equal ones"
            )
    check_ranks("fusion", adapters)
    modules = {}
    for name in first.modules:
        parts = [adapter.modules[name] for adapter in adapters]
        a = weighted_sum([part.a for part in parts], weights)
        b = weighted_sum([part.b for part in parts], weights)
        modules[name] = Factors(a, b, mean_magnitude(parts, weights))
    return LowRankAdapter(first.kind, first.scaling, modules, heads={})


def ensemble(adapters: Adapters, weights: Sequence[float], base: Base) -> Deltas:
    """Σ wᵢΔWᵢ, the *mixture* of LoraRetriever: equal to averaging the layers' outputs."""
    return combined(changes_of(adapters, weights, base), weights)


def average_heads(adapters: Adapters, weights: Sequence[float]) -> dict[str, Tensor]:
    """Weighted sum of the heads of runs of one task; CotoError if names or shapes differ."""
    first, *others = [{k: v.shape for k, v in adapter.heads.items()} for adapter in adapters]
    if any(other != first for other in others):
        raise CotoError("heads: expected the same names and shapes in all adapters")
    return combined([adapter.heads for adapter in adapters], weights)


@operator("fusion", space="factors", order=1)
def merge_fusion(adapters: Adapters, weights: Sequence[float], base: Base) -> Merged:
    """Mean of A and mean of B; the paper's linear fusion."""
    fused = fusion(adapters, weights)
    return Merged(deltas(fused, base), fused)


@operator("ensemble", space="delta", order=2, settings={"rank": None})
def merge_ensemble(
    adapters: Adapters, weights: Sequence[float], base: Base, *, rank: int | None
) -> Merged:
    """Mean of ΔW, equal to the mean of the adapters' outputs.

    For LoRA and HiRA the result is an adapter of the sum of the ranks; or ΔW is brought back to a
    `rank` (:func:`truncated`).
    """
    change = ensemble(adapters, weights, base)
    return finished(change, concatenation(adapters, weights), rank, base)


def finished(change: Deltas, exact: LowRankAdapter | None, rank: int | None, base: Base) -> Merged:
    """A merge in the space of ΔW, of which `exact` is the adapter, if any; or cut to a `rank`."""
    if rank is None:
        return Merged(change, exact)
    adapter, error = truncated(change, rank, exact)
    return Merged(deltas(adapter, base), adapter, {"svd_error": error})


def concatenation(adapters: Adapters, weights: Sequence[float]) -> LowRankAdapter | None:
    """The adapter of the sum of the ranks whose ΔW is Σ wᵢΔWᵢ; scalings and weights go into B.

    None for kinds whose ΔW is no product of A and B, such as DoRA: their sum is of full rank.
    """
    kind = adapters[0].kind
    if KINDS[kind].product is None:
        return None
    modules = {}
    for name in adapters[0].modules:
        pairs = list(zip(adapters, weights, strict=True))
        b = [weight * one.scale * one.modules[name].b for one, weight in pairs]
        modules[name] = Factors(torch.cat([a.modules[name].a for a in adapters]), torch.cat(b, 1))
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
    """The LoRA adapter of a rank that is nearest to ΔW in the Frobenius norm (Eckart–Young).

    And its relative error ‖ΔW − BA‖ / ‖ΔW‖ over all modules. An `exact` adapter with this ΔW makes
    the SVD cheap. CotoError if the rank is not positive.
    """
    if rank < 1:
        raise CotoError(f"rank = {rank}: expected 1 or more")
    modules, lost, total = {}, 0.0, 0.0
    for name, matrix in change.items():
        if exact is not None and KINDS[exact.kind].product == "plain":
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


def same_scaling(adapters: Adapters) -> list[LowRankAdapter]:
    """Adapters with the first one's scaling and their own ΔW: what differs goes into B."""
    target = adapters[0].scaling
    folded = []
    for adapter in adapters:
        if adapter.scaling != target:
            factor = 1.0 if KINDS[adapter.kind].alpha is None else adapter.scaling / target
            modules = {n: replace(f, b=factor * f.b) for n, f in adapter.modules.items()}
            adapter = replace(adapter, scaling=target, modules=modules)
        folded.append(adapter)
    return folded


def mean_magnitude(parts: Sequence[Factors], weights: Sequence[float]) -> Tensor | None:
    """Weighted sum of DoRA's magnitudes of one layer; None for the other kinds."""
    magnitudes = [part.magnitude for part in parts if part.magnitude is not None]
    return weighted_sum(magnitudes, weights) if magnitudes else None


def combined(vectors: Sequence[Base], weights: Sequence[float]) -> dict[str, Tensor]:
    """Σ wᵢTᵢ of tensors by name."""
    return {name: weighted_sum([v[name] for v in vectors], weights) for name in vectors[0]}


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ wᵢTᵢ of tensors of one shape."""
    return reduce(torch.add, (w * t for w, t in zip(weights, tensors, strict=True)))


def changes_of(adapters: Adapters, weights: Sequence[float], base: Base) -> list[Deltas]:
    """ΔW of every adapter, where they can be merged; raises as :func:`check_mergeable`."""
    check_mergeable(adapters, weights)
    return [deltas(adapter, base) for adapter in adapters]


def check_mergeable(adapters: Adapters, weights: Sequence[float]) -> None:
    """Raise CotoError if kinds or modules differ, or each adapter has not one weight."""
    if not adapters or len(adapters) != len(weights):
        raise CotoError(
            f"merge: {len(adapters)} adapters and {len(weights)} weights: "
            "expected one weight for each of one or more adapters"
        )
    first = adapters[0]
    for adapter in adapters[1:]:
        if adapter.kind != first.kind:
            raise CotoError(f"merge: kinds {first.kind} and {adapter.kind}: expected equal ones")
        if odd := sorted(adapter.modules.keys() ^ first.modules.keys()):
            raise CotoError(f"merge: only some adapters have {odd[0]}: expected the same modules")


def check_ranks(what: str, adapters: Adapters) -> None:
    """Refuse adapters whose ranks differ in a module, for an operator that pairs ranks."""
    for name, first in adapters[0].modules.items():
        for other in (adapter.modules[name] for adapter in adapters[1:]):
            if other.rank != first.rank:
                ranks = f"{first.rank} and {other.rank}"
                raise CotoError(f"{what}: ranks {ranks} of {name}: expected equal ones")
