"""Products with adapted weights, and their gradients, without what PEFT's layers do twice.

One frozen weight W (out, in) may carry several adapters, each on a row block of its own
(:mod:`coto.fast.changed`): this is how queries, keys and values are one product. What is kept for
the backward pass: the input, the factors and, with DoRA, the output before its magnitude.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from coto.fast.changed import (
    PIECE,
    Part,
    changed_rows,
    gains_of,
    norm,
    overlap,
    pieces,
    wide,
    with_tensors,
    without_tensors,
)


def adapted_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, parts: Sequence[Part]
) -> Tensor:
    """Outputs (…, out) of inputs (…, in), in the precision of autocast, without it the weight's.

    Gradients flow to `x` and to the tensors of `parts`, whose rows do not overlap; none to `weight`
    (out, in) and `bias` (out).
    """
    casts = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if casts else weight.dtype
    if not parts:
        return F.linear(x if casts else x.to(dtype), weight, bias)
    # All operands are in the right precision, or on purpose in a wider one.
    with torch.autocast(x.device.type, enabled=False):
        tensors = [tensor for part in parts for tensor in part.trained]
        return cast(Tensor, _Product.apply(x.to(dtype), weight, bias, tuple(parts), *tensors))


def forming_pays(tokens: int, width: int, rows: int, adapted: int) -> bool:
    """Whether W + sBA, made anew, costs less than two thin products per adapter.

    Both are bound by memory: forming reads and writes `rows` × `width` numbers, thin products read
    the input (`tokens` × `width`), and read and write the `adapted` outputs of every token. (What
    they calculate, 2 × rank operations per number, is in the same proportion.)
    """
    return 2 * rows * width < tokens * (width + 2 * adapted)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        parts: tuple[Part, ...],
        *_: Tensor,
    ) -> Tensor:
        kept, flat = weight, x.reshape(-1, x.shape[-1])
        weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        scaled = any(part.magnitude is not None for part in parts)
        norms: Tensor | None = None
        if scaled:
            norms = weight.new_ones(len(weight), dtype=wide(weight.dtype))
        add = None if scaled else bias  # a magnitude scales what is there before the bias
        if _forms(flat, weight, parts) and weight.dtype.itemsize >= 4:
            y = _formed_product(flat, weight, add, parts, norms)
        else:
            # A change of less than half a unit in the last place of W would be lost in W + sBA.
            y = _thin_product(flat, weight, add, parts, norms)
        ctx.parts, ctx.shape = [without_tensors(part) for part in parts], x.shape
        tensors = [tensor for part in parts for tensor in part.trained]
        if norms is None:
            ctx.save_for_backward(x, kept, *tensors)
        else:
            ctx.save_for_backward(x, kept, *tensors, y, norms)
            gains = gains_of(parts, norms)
            # In one pass over memory.
            y = y * gains if bias is None else torch.addcmul(bias.to(gains.dtype), y, gains)
            y = y.to(x.dtype)
        return y.view(*x.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *tensors = ctx.saved_tensors
        z = norms = gains = None
        if any(part.magnitude is not None for part in ctx.parts):
            *tensors, z, norms = tensors
        parts, wanted, at = [], [], 0
        for part in ctx.parts:
            end = at + len(part.trained)
            parts.append(with_tensors(part, tensors[at:end]))
            wanted.append(any(ctx.needs_input_grad[4 + at : 4 + end]))
            at = end
        x, weight = x.reshape(-1, x.shape[-1]), weight.to(x.dtype)
        dy = dy.reshape(-1, len(weight)).to(x.dtype)
        magnitudes: dict[int, Tensor] = {}
        formed = _forms(x, weight, parts)
        if norms is not None and z is not None:
            gains = gains_of(parts, norms)
            for index, part in enumerate(parts):
                if part.magnitude is not None and wanted[index]:
                    rows = part.rows
                    summed = _sum_of_products(dy[:, rows], z[:, rows])
                    magnitudes[index] = (summed / norms[rows]).to(part.magnitude.dtype)
            if not formed:
                dy, gains = (dy * gains).to(dy.dtype), None
        plain = [index for index, part in enumerate(parts) if not part.masked]
        u = _back_thin(dy, [parts[i] for i in plain], gains)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = _back(dy, weight, parts, gains) if formed else dy @ weight
            if not formed:
                for block, i in zip(u, plain, strict=True):
                    dx.addmm_(block.T, parts[i].a.to(dx.dtype))
        factors: dict[int, tuple[Tensor, Tensor]] = {}
        if chosen := [(block, i) for block, i in zip(u, plain, strict=True) if wanted[i]]:
            blocks, indices = zip(*chosen, strict=True)
            made = _thin_gradients(x, dy, [parts[i] for i in indices], blocks, gains)
            factors = dict(zip(indices, made, strict=True))
        gradients: list[Tensor | None] = []
        for index, part in enumerate(parts):
            if not wanted[index]:
                gradients += [None] * len(part.trained)
                continue
            if part.masked:
                factors[index] = _masked_gradients(x, dy, weight, part)
            da, db = factors[index]
            gradients += [da.to(part.a.dtype), db.to(part.b.dtype)]
            if part.magnitude is not None:
                gradients.append(magnitudes[index])
        return dx if dx is None else dx.view(ctx.shape), None, None, None, *gradients


def _forms(x: Tensor, weight: Tensor, parts: Sequence[Part]) -> bool:
    """Whether a product is one with the changed weight."""
    adapted = sum(len(part.b) for part in parts)
    pays = forming_pays(len(x), weight.shape[1], len(weight), adapted)
    return pays or any(part.masked for part in parts)


def _formed_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, parts: Sequence[Part], norms: Tensor | None
) -> Tensor:
    """x (tokens, in) times the changed weight; writes the norms of the rows with a magnitude."""
    cuts = list(pieces(weight, 0, len(weight)))
    y = x.new_empty(len(x), len(weight)) if len(cuts) > 1 else None
    for rows in cuts:
        changed = changed_rows(weight, parts, rows)
        for part in parts:
            if norms is not None and part.magnitude is not None:
                both = overlap(part.rows, rows)
                ours = changed[both.start - rows.start : both.stop - rows.start]
                norms[both] = torch.linalg.vector_norm(ours, dim=1)
        if y is None:
            return F.linear(x, changed, bias)
        torch.mm(x, changed.T, out=y[:, rows])
    assert y is not None
    return y if bias is None else y.add_(bias)


def _thin_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, parts: Sequence[Part], norms: Tensor | None
) -> Tensor:
    """The same as products with W, with the factors, and with W ∘ BA where there is a mask."""
    tokens, dtype = len(x), x.dtype
    scaled = [part for part in parts if part.magnitude is not None]
    crossed: list[Tensor] = []  # AWᵀ (rank, rows) of these
    if scaled and tokens < weight.shape[1]:
        # One pass over W for both: with few tokens, reading it is what takes the time.
        ends = [tokens, *(len(part.a) for part in scaled)]
        stacked = torch.cat([x, *(part.a.to(dtype) for part in scaled)])
        y, *more = F.linear(stacked, weight, bias).split(ends)
        crossed = [rest[:, part.rows] for rest, part in zip(more, scaled, strict=True)]
    else:
        y = F.linear(x, weight, bias)
        crossed = [part.a.to(dtype) @ weight[part.rows].T for part in scaled]
    for part in parts:
        if part.masked:
            for rows in pieces(weight, part.rows.start, part.rows.stop):
                b = part.b[rows.start - part.rows.start : rows.stop - part.rows.start]
                change = (b.to(dtype) @ part.a.to(dtype)).mul_(weight[rows])
                y[:, rows].addmm_(x, change.T)
        else:
            v = part.a.to(dtype) @ x.T
            y[:, part.rows].addmm_(v.T, part.b.to(dtype).T, alpha=part.scaling)
    for part, cross in zip(scaled, crossed, strict=True):
        assert norms is not None
        norms[part.rows] = norm(part, cross)
    return y


def _back(dy: Tensor, weight: Tensor, parts: Sequence[Part], gains: Tensor | None) -> Tensor:
    """Gradient of the input (tokens, in) through the changed weight."""
    first, *others = pieces(weight, 0, len(weight))
    dx = dy[:, first] @ changed_rows(weight, parts, first, gains)
    for rows in others:
        dx.addmm_(dy[:, rows], changed_rows(weight, parts, rows, gains))
    return dx


# Thin products run several times faster with the rank as the first dimension.
def _back_thin(dy: Tensor, parts: Sequence[Part], gains: Tensor | None) -> list[Tensor]:
    """Per part u = s(g ∘ B)ᵀdyᵀ, (rank, tokens); all are views of one tensor."""
    ranks = [len(part.a) for part in parts]
    u = list(dy.new_empty(sum(ranks), len(dy)).split(ranks)) if parts else []
    for block, part in zip(u, parts, strict=True):
        b = part.b * part.scaling
        if gains is not None:
            b = b * gains[part.rows, None]
        torch.mm(b.to(dy.dtype).T, dy[:, part.rows].T, out=block)
    return u


def _thin_gradients(
    x: Tensor, dy: Tensor, parts: Sequence[Part], u: Sequence[Tensor], gains: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """Gradients of A and B per part: ux and, with v = Axᵀ, s(g ∘ (v dy)ᵀ)."""
    ranks = [len(part.a) for part in parts]
    one = len(parts) == 1
    v = (parts[0].a if one else torch.cat([part.a for part in parts])).to(x.dtype) @ x.T
    da = (u[0] if one else torch.cat(list(u))) @ x
    gradients = []
    for part, a, block in zip(parts, da.split(ranks), v.split(ranks), strict=True):
        b = (block @ dy[:, part.rows]).T.to(part.b.dtype) * part.scaling
        gradients.append((a, b if gains is None else b * gains[part.rows, None]))
    return gradients


def _masked_gradients(x: Tensor, dy: Tensor, weight: Tensor, part: Part) -> tuple[Tensor, Tensor]:
    """Gradients of HiRA's A and B: with G = W ∘ dyᵀx, BᵀG and GAᵀ."""
    a, b = part.a.to(weight.dtype), part.b.to(weight.dtype)
    da, db = torch.zeros_like(part.a), torch.empty_like(part.b)
    for rows in pieces(weight, part.rows.start, part.rows.stop):
        ours = slice(rows.start - part.rows.start, rows.stop - part.rows.start)
        change = (dy[:, rows].T @ x).mul_(weight[rows])
        db[ours] = change @ a.T
        da += b[ours].T @ change
    return da, db


def _sum_of_products(left: Tensor, right: Tensor) -> Tensor:
    """Σ over tokens (rows), in at least fp32, of two (tokens, rows)."""
    precise = wide(left.dtype)
    step = max(1, PIECE["cpu"] // max(1, left.shape[1]))
    total = left.new_zeros(left.shape[1], dtype=precise)
    for at in range(0, len(left), step):
        total += (left[at : at + step] * right[at : at + step]).sum(0, dtype=precise)
    return total
