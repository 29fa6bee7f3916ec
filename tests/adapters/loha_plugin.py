"""An adapter kind and a merging operator from outside: all that a plugin has to say of them."""

import torch

from coto.adapters.kinds import KINDS, Kind
from coto.operators.merge import Merged, ensemble
from coto.operators.operator import operator, pruning


def change(scaling, parts, weight):
    """(W₁ₐW₁ᵦ) ⊙ (W₂ₐW₂ᵦ), scaled."""
    return scaling * (parts.a1 @ parts.b1) * (parts.a2 @ parts.b2)


KINDS.add(
    Kind(
        "loha",
        "LoHaConfig",
        parts={"a1": "hada_w1_a", "b1": "hada_w1_b", "a2": "hada_w2_a", "b2": "hada_w2_b"},
        delta=f"{__name__}:change",
        alpha="alpha",
        dropout=None,
    )
)


@operator("largest", space="delta", settings={"scale": 1.0})
def largest(adapters, weights, base, *, scale):
    """The largest entry of every ΔW."""
    changes = [ensemble([adapter], [1.0], base) for adapter in adapters]
    return Merged({n: scale * torch.stack([c[n] for c in changes]).amax(0) for n in changes[0]})


@pruning("first-delta", space="delta")
def first(adapter, change, base, sparsity, repeat):
    """The first rows go."""
    return {n: m * (torch.arange(len(m)) >= sparsity * len(m))[:, None] for n, m in change.items()}
