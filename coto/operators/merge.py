"""Merging of adapters, in factor space or in the space of weight changes.

*Fusion* averages A and B separately, *ensemble* averages ΔW = BA. They differ by cross terms: for
two adapters with weights 1−λ and λ, ensemble − fusion = s·λ(1−λ)(B₁−B₂)(A₁−A₂). Heads, whose
parameters are ordinary weights, are averaged the same way in both.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Deltas, Factors, LowRankAdapter, deltas


def fusion(adapters: Sequence[LowRankAdapter], weights: Sequence[float]) -> LowRankAdapter:
    """Ā = Σ wᵢAᵢ and B̄ = Σ wᵢBᵢ, and likewise DoRA's magnitudes: an adapter of the same rank.

    This is the *fusion* of LoraRetriever (Zhao et al. 2024) and what the CoTo paper calls linear.
    Heads are not part of it (:func:`average_heads`).

    Raises:
        CotoError: if kinds, scalings, modules or ranks differ.
    """
    _check(adapters, weights)
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
        magnitudes = [part.magnitude for part in parts if part.magnitude is not None]
        modules[name] = Factors(
            a=_weighted_sum([part.a for part in parts], weights),
            b=_weighted_sum([part.b for part in parts], weights),
            magnitude=_weighted_sum(magnitudes, weights) if magnitudes else None,
        )
    return LowRankAdapter(first.kind, first.scaling, modules, heads={})


def ensemble(
    adapters: Sequence[LowRankAdapter], weights: Sequence[float], base: Mapping[str, Tensor]
) -> Deltas:
    """Σ wᵢΔWᵢ, the *mixture* of LoraRetriever: equal to averaging the layers' outputs.

    Raises:
        CotoError: if kinds or modules differ.
    """
    _check(adapters, weights)
    changes = [deltas(adapter, base) for adapter in adapters]
    return {
        name: _weighted_sum([change[name] for change in changes], weights) for name in changes[0]
    }


def merge(
    space: str,
    adapters: Sequence[LowRankAdapter],
    weights: Sequence[float],
    base: Mapping[str, Tensor],
) -> Deltas:
    """ΔW of the merged adapter, by the name of the space that is averaged in.

    Raises:
        CotoError: if the space is unknown, or as :func:`fusion` and :func:`ensemble`.
    """
    if space == "fusion":
        return deltas(fusion(adapters, weights), base)
    if space == "ensemble":
        return ensemble(adapters, weights, base)
    raise CotoError(f"space = {space!r}: expected fusion or ensemble")


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
        name: _weighted_sum([adapter.heads[name] for adapter in adapters], weights)
        for name in first
    }


def _weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = weights[0] * tensors[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total = total + weight * tensor
    return total


def _check(adapters: Sequence[LowRankAdapter], weights: Sequence[float]) -> None:
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
