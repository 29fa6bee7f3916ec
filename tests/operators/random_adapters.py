"""Adapters and base weights at random, in double precision."""

import torch
from hypothesis import strategies as st

from coto.adapters.delta import Factors, LowRankAdapter

KINDS = ("lora", "dora", "hira")
shapes = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4))


def random_adapter(kind, shape, seed, modules=2, scaling=1.7) -> LowRankAdapter:
    out, width, rank = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    factors = {
        f"layer.{i}.query": Factors(
            draw(rank, width), draw(out, rank), draw(out).abs() if kind == "dora" else None
        )
        for i in range(modules)
    }
    return LowRankAdapter(kind, scaling, factors, {"head.weight": draw(2, 3)})


def random_base(adapter: LowRankAdapter, seed=9) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(f.b.shape[0], f.a.shape[1], generator=generator, dtype=torch.float64)
        for name, f in adapter.modules.items()
    }


def rotated(adapter: LowRankAdapter, matrix: torch.Tensor) -> LowRankAdapter:
    """The same ΔW with factors BR and R⁻¹A, for an invertible R."""
    modules = {
        name: Factors(torch.linalg.solve(matrix, f.a), f.b @ matrix, f.magnitude)
        for name, f in adapter.modules.items()
    }
    return LowRankAdapter(adapter.kind, adapter.scaling, modules, adapter.heads)


def close(left, right, **tolerance):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], **tolerance)
