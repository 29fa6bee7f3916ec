"""Weights that adapters change: the changed rows, their norms, in pieces.

With W (out, in) an adapter makes of its rows

* LoRA: W + sBA,
* DoRA: g ∘ (W + sBA), g = m / ‖W + sBA‖ per row, the norm a constant to the gradient (Liu et al.,
  *DoRA*, 2024, §4.3),
* HiRA: W ∘ (1 + BA).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# A changed weight is made in pieces of so many numbers, each used at once: on a CPU one that stays
# in its cache, on a GPU one that keeps it busy.
PIECE = {"cpu": 2**20, "cuda": 2**25}
LEAST_ROWS = 64  # of a piece: products with fewer are slow


@dataclass(frozen=True, slots=True)
class Part:
    """An adapter on a row block of a weight.

    Attributes:
        rows: which ones.
        a, b: factors A (rank, in) and B (rows, rank).
        scaling: s; HiRA has none.
        masked: HiRA.
        magnitude: DoRA's m (rows).
        square: with it, ‖W‖² per row (rows), in at least fp32.
    """

    rows: slice
    a: Tensor
    b: Tensor
    scaling: float = 1.0
    masked: bool = False
    magnitude: Tensor | None = None
    square: Tensor | None = None

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """What has a gradient."""
        return (self.a, self.b) if self.magnitude is None else (self.a, self.b, self.magnitude)


def squares(weight: Tensor) -> Tensor:
    """‖W‖² per row (out) of a weight (out, in), in at least fp32."""
    result = weight.new_empty(len(weight), dtype=wide(weight.dtype))
    for rows in pieces(weight, 0, len(weight)):
        result[rows] = torch.linalg.vector_norm(weight[rows], dim=1, dtype=result.dtype).square()
    return result


def norm(part: Part, cross: Tensor) -> Tensor:
    """‖W + sBA‖ per row (rows), from AWᵀ (rank, rows) and ‖W‖²."""
    assert part.square is not None
    b, a = part.b.to(part.square.dtype), part.a.to(part.square.dtype)
    change = (b * (b @ (a @ a.T))).sum(1)
    mixed = (b * cross.T).sum(1)
    total = part.square + 2 * part.scaling * mixed + part.scaling**2 * change
    return total.clamp_min(0).sqrt()


def changed_rows(
    weight: Tensor, parts: Sequence[Part], rows: slice, gains: Tensor | None = None
) -> Tensor:
    """These rows of the weight with their adapters, multiplied by their gains if there are any."""
    changed = torch.empty_like(weight[rows])
    at = rows.start
    for part in sorted(parts, key=lambda part: part.rows.start):
        both = overlap(part.rows, rows)
        if both.start >= both.stop:
            continue
        changed[at - rows.start : both.start - rows.start] = weight[at : both.start]
        at = both.stop
        ours, old = changed[both.start - rows.start : at - rows.start], weight[both]
        b = part.b[both.start - part.rows.start : at - part.rows.start].to(weight.dtype)
        a = part.a.to(weight.dtype)
        if part.masked:
            torch.mm(b, a, out=ours)
            torch.addcmul(old, old, ours, out=ours)
        else:
            torch.addmm(old, b, a, alpha=part.scaling, out=ours)
    changed[at - rows.start :] = weight[at : rows.stop]
    return changed if gains is None else changed.mul_(gains[rows, None])


def gains_of(parts: Sequence[Part], norms: Tensor) -> Tensor:
    """DoRA's g = m / ‖W + sBA‖ of every row of the weight (out), 1 where there is no magnitude."""
    gains = torch.ones_like(norms)
    for part in parts:
        if part.magnitude is not None:
            gains[part.rows] = part.magnitude / norms[part.rows]
    return gains


def pieces(weight: Tensor, start: int, stop: int) -> Iterator[slice]:
    """Rows `start` to `stop` of a weight, cut so that each piece is used while it is at hand."""
    size = PIECE["cpu" if weight.device.type == "cpu" else "cuda"] // weight.shape[1]
    size = max(LEAST_ROWS, size)
    for at in range(start, stop, size):
        yield slice(at, min(at + size, stop))


def overlap(left: slice, right: slice) -> slice:
    """Rows in both; it begins where they begin to overlap, or is empty."""
    start = max(left.start, right.start)
    return slice(start, max(start, min(left.stop, right.stop)))


def wide(dtype: torch.dtype) -> torch.dtype:
    """At least fp32."""
    return torch.promote_types(dtype, torch.float32)


_NOTHING = torch.empty(0)


def without_tensors(part: Part) -> Part:
    """A part as it is kept beside autograd's saved tensors."""
    none = None if part.magnitude is None else _NOTHING
    return replace(part, a=_NOTHING, b=_NOTHING, magnitude=none)


def with_tensors(part: Part, tensors: Sequence[Tensor]) -> Part:
    """A part of :func:`without_tensors` again as it was, with its :attr:`Part.trained`."""
    return replace(part, a=tensors[0], b=tensors[1], magnitude=(*tensors, None)[2])
