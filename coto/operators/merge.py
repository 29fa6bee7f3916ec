"""Merging of adapters, in factor space or in the space of weight changes.

*Fusion* averages A and B separately, *ensemble* averages ΔW = BA. They differ by cross terms: for
two adapters with weights 1−λ and λ, ensemble − fusion = s·λ(1−λ)(B₁−B₂)(A₁−A₂). Heads, whose
parameters are ordinary weights, are averaged the same way in both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Deltas, Factors, LowRankAdapter, deltas
from coto.operators.merged import Merged, from_adapter
from coto.operators.svd import concatenation, finished


def fusion(adapters: Sequence[LowRankAdapter], weights: Sequence[float]) -> LowRankAdapter:
    """Ā = Σ wᵢAᵢ and B̄ = Σ wᵢBᵢ, and likewise DoRA's magnitudes: an adapter of the same rank.

    This is the *fusion* of LoraRetriever (Zhao et al. 2024) and what the CoTo paper calls linear.
    Heads are not part of it (:func:`average_heads`).

    Scalings must be equal, for folding them in asks which factor should hold them, and the answer
    changes the result: :func:`same_scaling` folds them into B on request. Weights may be negative
    and need not add up to 1.

    Raises:
        CotoError: if kinds, scalings, modules or ranks differ.
    """
    check_mergeable(adapters, weights)
    first = adapters[0]
    for adapter in adapters[1:]:
        if adapter.scaling != first.scaling:
            raise CotoError(
                f"fusion: scalings {first.scaling} and {adapter.scaling}: expected equal ones"
            )
        for name, factors in adapter.modules.items():
            if factors.rank != first.modules[name].rank:
                raise CotoError(
                    f"fusion: ranks {first.modules[name].rank} and {factors.rank} of {name}: "
                    "expected equal ones"
                )
    modules = {}
    for name in first.modules:
        parts = [adapter.modules[name] for adapter in adapters]
        modules[name] = Factors(
            a=weighted_sum([part.a for part in parts], weights),
            b=weighted_sum([part.b for part in parts], weights),
            magnitude=mean_magnitude(parts, weights),
        )
    return LowRankAdapter(first.kind, first.scaling, modules, heads={})


def ensemble(
    adapters: Sequence[LowRankAdapter], weights: Sequence[float], base: Mapping[str, Tensor]
) -> Deltas:
    """Σ wᵢΔWᵢ, the *mixture* of LoraRetriever: equal to averaging the layers' outputs.

    Raises:
        CotoError: if kinds or modules differ.
    """
    check_mergeable(adapters, weights)
    changes = [deltas(adapter, base) for adapter in adapters]
    return {
        name: weighted_sum([change[name] for change in changes], weights) for name in changes[0]
    }


def average_heads(
    adapters: Sequence[LowRankAdapter], weights: Sequence[float]
) -> dict[str, Tensor]:
    """Weighted sum of the heads, for merging runs of one task.

    Raises:
        CotoError: if the heads' names or shapes differ.
    """
    first = adapters[0].heads
    for adapter in adapters[1:]:
        if {k: v.shape for k, v in adapter.heads.items()} != {k: v.shape for k, v in first.items()}:
            raise CotoError("heads: expected the same names and shapes in all adapters")
    return {
        name: weighted_sum([adapter.heads[name] for adapter in adapters], weights) for name in first
    }


def merge_fusion(
    adapters: Sequence[LowRankAdapter], weights: Sequence[float], base: Mapping[str, Tensor]
) -> Merged:
    """:func:`fusion`, with its ΔW."""
    return from_adapter(fusion(adapters, weights), base)


def merge_ensemble(
    adapters: Sequence[LowRankAdapter],
    weights: Sequence[float],
    base: Mapping[str, Tensor],
    *,
    rank: int | None,
) -> Merged:
    """:func:`ensemble`; exact as an adapter of the sum of the ranks (LoRA, HiRA).

    Args:
        adapters: the adapters.
        weights: their shares.
        base: base weights by module name.
        rank: bring ΔW back to this rank (:func:`coto.operators.svd.truncated`), or None.
    """
    change = ensemble(adapters, weights, base)
    return finished(change, concatenation(adapters, weights), rank, base)


def same_scaling(adapters: Sequence[LowRankAdapter]) -> list[LowRankAdapter]:
    """Adapters with the first one's scaling and their own ΔW: what differs goes into B.

    Into B, which begins at zero and takes its size from training; A keeps that of its
    initialisation.
    """
    target = adapters[0].scaling
    folded = []
    for adapter in adapters:
        if adapter.scaling != target:
            # HiRA has no scaling that its ΔW would depend on.
            factor = 1.0 if adapter.kind == "hira" else adapter.scaling / target
            modules = {n: replace(f, b=factor * f.b) for n, f in adapter.modules.items()}
            adapter = replace(adapter, scaling=target, modules=modules)
        folded.append(adapter)
    return folded


def mean_magnitude(parts: Sequence[Factors], weights: Sequence[float]) -> Tensor | None:
    """Weighted sum of DoRA's magnitudes of one layer; None for the other kinds."""
    magnitudes = [part.magnitude for part in parts if part.magnitude is not None]
    return weighted_sum(magnitudes, weights) if magnitudes else None


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ wᵢTᵢ of tensors of one shape."""
    total = weights[0] * tensors[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total = total + weight * tensor
    return total


def check_mergeable(adapters: Sequence[LowRankAdapter], weights: Sequence[float]) -> None:
    """Refuse adapters that no operator can merge.

    Raises:
        CotoError: if kinds or modules differ, or there is not one weight for each adapter.
    """
    if not adapters or len(adapters) != len(weights):
        raise CotoError(
            f"merge: {len(adapters)} adapters and {len(weights)} weights: "
            "expected one weight for each of one or more adapters"
        )
    first = adapters[0]
    for adapter in adapters[1:]:
        if adapter.kind != first.kind:
            raise CotoError(f"merge: kinds {first.kind} and {adapter.kind}: expected equal ones")
        if adapter.modules.keys() != first.modules.keys():
            odd = sorted(adapter.modules.keys() ^ first.modules.keys())
            raise CotoError(f"merge: only some adapters have {odd[0]}: expected the same modules")
