"""What a merging operator makes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from coto.operators.adapter import Deltas, LowRankAdapter, deltas


@dataclass(frozen=True)
class Merged:
    """The merge of several adapters; heads are not part of it.

    Attributes:
        deltas: ΔW (out, in) by module name.
        adapter: The same as an adapter that PEFT can hold, where the merge is of low rank.
        report: What the operator measured on its way, by name.
        modules: The same for each module by name, where the operator measures modules.
    """

    deltas: Deltas
    adapter: LowRankAdapter | None = None
    report: Mapping[str, float] = field(default_factory=dict)
    modules: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def from_adapter(
    adapter: LowRankAdapter,
    base: Mapping[str, Tensor],
    report: Mapping[str, float] | None = None,
    modules: Mapping[str, Mapping[str, float]] | None = None,
) -> Merged:
    """A merge that is itself an adapter, with its ΔW on the base weights."""
    return Merged(deltas(adapter, base), adapter, report or {}, modules or {})
