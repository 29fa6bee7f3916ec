"""An adapter as tensors, and the weight change ΔW that it stands for.

=======  =================================  =======================================================
kind     weight of an adapted layer         ΔW
=======  =================================  =======================================================
lora     W₀ + s·BA                          s·BA                              (Hu et al. 2022)
dora     m ⊙ (W₀ + s·BA) / ‖W₀ + s·BA‖      the weight minus W₀; norm per row (Liu et al. 2024)
hira     W₀ + W₀ ⊙ BA                       W₀ ⊙ BA                           (Huang et al. 2025)
=======  =================================  =======================================================

Shapes: W₀ (out, in), A (rank, in), B (out, rank), m (out,).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["lora", "dora", "hira"]
Deltas = dict[str, Tensor]
"""ΔW (out, in) by module name."""


@dataclass(frozen=True)
class Factors:
    """One layer's adapter: A (rank, in), B (out, rank) and, for DoRA, magnitudes m (out,)."""

    a: Tensor
    b: Tensor
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        """Rank of the product BA at most."""
        return self.a.shape[0]


@dataclass(frozen=True)
class LowRankAdapter:
    """An adapter of a whole model, and the heads that were trained with it."""

    kind: Kind
    scaling: float
    modules: Mapping[str, Factors]
    heads: Mapping[str, Tensor]


def delta(kind: Kind, scaling: float, factors: Factors, weight: Tensor) -> Tensor:
    """ΔW of one layer, (out, in), for the base weight W₀ of the same shape."""
    product = factors.b @ factors.a
    if kind == "hira":
        return weight * product
    if kind == "lora":
        return scaling * product
    assert factors.magnitude is not None
    direction = weight + scaling * product
    norm = torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    return factors.magnitude.unsqueeze(1) * direction / norm - weight


def deltas(adapter: LowRankAdapter, base: Mapping[str, Tensor]) -> Deltas:
    """ΔW of every adapted layer.

    Args:
        adapter: the adapter.
        base: base weights by module name; must hold every adapted module.
    """
    return {
        name: delta(adapter.kind, adapter.scaling, factors, base[name])
        for name, factors in adapter.modules.items()
    }
