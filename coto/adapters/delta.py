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

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pkgutil import resolve_name

import torch
from torch import Tensor

from coto.adapters.kinds import KINDS
from coto.errors import CotoError

Deltas = dict[str, Tensor]
"""ΔW (out, in) by module name."""
Base = Mapping[str, Tensor]
"""Base weights W₀ (out, in) by module name; must hold every adapted module."""


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
    """An adapter of a whole model, and the heads that were trained with it, in full.

    `scaling` is alpha over rank, or what ΔW is scaled by. A kind from outside whose parts are not A
    and B has its own as attributes of a namespace in `modules`.
    """

    kind: str
    scaling: float
    modules: Mapping[str, Factors]
    heads: Mapping[str, Tensor]

    @property
    def scale(self) -> float:
        """The scaling if ΔW depends on it, else 1."""
        return 1.0 if KINDS[self.kind].alpha is None else self.scaling


Adapters = Sequence[LowRankAdapter]


def lora(scaling: float, factors: Factors, weight: Tensor) -> Tensor:
    """s·BA."""
    return scaling * (factors.b @ factors.a)


def dora(scaling: float, factors: Factors, weight: Tensor) -> Tensor:
    """m ⊙ (W₀ + s·BA) / ‖W₀ + s·BA‖ − W₀, with the norm of each row."""
    assert factors.magnitude is not None
    direction = weight + scaling * (factors.b @ factors.a)
    norm = torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    return factors.magnitude.unsqueeze(1) * direction / norm - weight


def hira(scaling: float, factors: Factors, weight: Tensor) -> Tensor:
    """W₀ ⊙ BA."""
    return weight * (factors.b @ factors.a)


def delta(kind: str, scaling: float, factors: Factors, weight: Tensor) -> Tensor:
    """ΔW of one layer, (out, in), for the base weight W₀ of the same shape."""
    return resolve_name(KINDS[kind].delta)(scaling, factors, weight)


def deltas(adapter: LowRankAdapter, base: Base) -> Deltas:
    """ΔW of every adapted layer."""
    return {
        name: delta(adapter.kind, adapter.scaling, factors, base[name])
        for name, factors in adapter.modules.items()
    }


def equal_ranks(adapter: LowRankAdapter) -> LowRankAdapter:
    """The same adapter, filled up with zeros to its largest rank: PEFT holds one rank for all."""
    rank = max((factors.rank for factors in adapter.modules.values()), default=0)
    pad, modules = torch.nn.functional.pad, {}
    for name, factors in adapter.modules.items():
        missing = rank - factors.rank
        a, b = pad(factors.a, (0, 0, 0, missing)), pad(factors.b, (0, missing))
        modules[name] = replace(factors, a=a, b=b)
    return replace(adapter, modules=modules)


def place_of(module: str) -> tuple[str, int]:
    """The stack of blocks that a module is in, such as ``encoder.layer``, and its block there.

    The block is the name's first number; CotoError if it has none.
    """
    found = re.search(r"\.(\d+)\.", module)
    if found is None:
        raise CotoError(f"module {module!r}: expected a layer number in its name")
    return module[: found.start()], int(found[1])
