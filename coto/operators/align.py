"""LoRA-align: rotate the ranks of adapters towards each other before they are fused.

BA = (BP)(P⁻¹A) for any invertible P (r, r): an adapter's ΔW does not fix its factors, but fusion
depends on them. Every adapter but the first gets the P that shrinks the gap between fusion and
ensemble,

    ‖ΔW_f − ΔW_m‖ = ‖(Σ wᵢBᵢPᵢ)(Σ wᵢPᵢ⁻¹Aᵢ) − Σ wᵢBᵢAᵢ‖  (Frobenius, times the scaling),

which for two adapters is w₁w₂‖(B₁ − B₂P)(A₁ − P⁻¹A₂)‖: the best P does not depend on their shares.
The paper names no optimiser. Ours is L-BFGS on the entries of the Pᵢ, in double precision, from
P = I; or from the orthogonal matrices that bring factors nearest to the first adapter's
(Procrustes), independent of any rotation that the adapters come with. A P that does not help is
not taken. For DoRA the gap of BA is made small, which is no gap of its ΔW and not reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from coto.adapters.delta import Adapters, Base, Factors, LowRankAdapter, deltas
from coto.adapters.kinds import KINDS
from coto.errors import CotoError
from coto.operators.merge import Merged, check_mergeable, check_ranks, fusion, same_scaling
from coto.operators.operator import Start, operator

Array = np.ndarray[Any, np.dtype[np.float64]]

# Beyond this ‖P‖‖P⁻¹‖ a rotation in single precision would no longer leave ΔW as it was.
WORST_CONDITION = 1e5


@dataclass(frozen=True)
class Alignment:
    """Adapters with aligned factors and unchanged ΔW; fuse them with any weights.

    `modules` has by module the Frobenius norms ``p_distance`` ‖P − I‖ and ``p_norm`` ‖P‖, means
    over all adapters but the first; where ΔW is a product, also ``gap_before`` and ``gap_after``.
    """

    adapters: list[LowRankAdapter]
    modules: dict[str, dict[str, float]]

    @property
    def report(self) -> dict[str, float]:
        """Means over the modules."""
        rows = list(self.modules.values())
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else {}


def align(
    adapters: Adapters,
    weights: Sequence[float],
    base: Base,
    *,
    start: Start = "identity",
    iterations: int = 200,
) -> Alignment:
    """Align the factors of adapters of equal ranks; different scalings go into B, heads stay.

    The gap is measured at the `weights`; L-BFGS has at most so many iterations per module.
    CotoError if ranks differ, or an argument is out of its range.
    """
    check_mergeable(adapters, weights)
    if start not in get_args(Start):
        raise CotoError(f"lora-align: start = {start!r}: expected identity or rotation")
    if iterations < 0:
        raise CotoError(f"lora-align: iterations = {iterations}: expected 0 or more")
    check_ranks("lora-align", adapters)
    adapters = same_scaling(adapters)
    product, scale = KINDS[adapters[0].kind].product, adapters[0].scale
    aligned: list[dict[str, Factors]] = [{} for _ in adapters]
    modules = {}
    for name, first in adapters[0].modules.items():
        parts = [adapter.modules[name] for adapter in adapters]
        gap = _Gap(parts, weights, base[name] if product == "masked" else None)
        identity = np.stack([np.eye(first.rank)] * len(parts))
        before = gap.value(identity)
        best = _minimised(gap, gap.rotations() if start == "rotation" else identity, iterations)
        after = gap.value(best)
        if not after < before:
            best, after = identity, before
        for part, p, factors in zip(parts, best, aligned, strict=True):
            there, back = torch.from_numpy(p), torch.from_numpy(np.linalg.inv(p))
            a, b = back @ part.a.double().cpu(), part.b.double().cpu() @ there
            factors[name] = replace(part, a=a.to(part.a), b=b.to(part.b))
        distance, norm = _mean_norm(best[1:] - identity[1:]), _mean_norm(best[1:])
        modules[name] = {"p_distance": distance, "p_norm": norm}
        if product is not None:
            gaps = {"gap_before": before, "gap_after": after}
            modules[name] |= {key: abs(scale) * gap2**0.5 for key, gap2 in gaps.items()}
    pairs = zip(adapters, aligned, strict=True)
    return Alignment([replace(adapter, modules=factors) for adapter, factors in pairs], modules)


@operator("lora-align", space="factors", order=3, settings={"start": "identity", "iterations": 200})
def merge_aligned(
    adapters: Adapters, weights: Sequence[float], base: Base, *, start: Start, iterations: int
) -> Merged:
    """Fusion after each adapter's ranks are rotated to shrink its gap to ensemble.

    The report has the gaps (not for DoRA) and the sizes of P.
    """
    aligned = align(adapters, weights, base, start=start, iterations=iterations)
    fused = fusion(aligned.adapters, weights)
    return Merged(deltas(fused, base), fused, aligned.report, aligned.modules)


class _Gap:
    """‖(Σ wᵢBᵢPᵢ)(Σ wᵢPᵢ⁻¹Aᵢ) − Σ wᵢBᵢAᵢ‖² of one layer as a function of P (n, r, r)."""

    def __init__(
        self, parts: Sequence[Factors], weights: Sequence[float], mask: Tensor | None
    ) -> None:
        self._b = np.stack([part.b.double().cpu().numpy() for part in parts])
        self._a = np.stack([part.a.double().cpu().numpy() for part in parts])
        self._weights = np.asarray(weights, dtype=float)
        self._mask = None if mask is None else mask.double().cpu().numpy()
        if self._mask is None:
            # Only what lies in the span of the factors matters: n·r coordinates on either side.
            self._b = _coordinates(self._b)
            self._a = _coordinates(self._a.transpose(0, 2, 1)).transpose(0, 2, 1)
        self._target = np.einsum("n,nor,nri->oi", self._weights, self._b, self._a)

    def value(self, p: Array) -> float:
        return self.value_and_gradient(p)[0]

    def value_and_gradient(self, p: Array) -> tuple[float, Array]:
        inverse = np.linalg.inv(p)
        turned = inverse @ self._a
        w = self._weights[:, None, None]
        b, a = (w * (self._b @ p)).sum(0), (w * turned).sum(0)
        error = b @ a - self._target
        slope = 2 * error
        if self._mask is not None:
            error = error * self._mask
            slope = slope * self._mask**2
        by_b, by_a = slope @ a.T, b.T @ slope
        # d(P⁻¹A) = −P⁻¹ dP P⁻¹A
        gradient = w * (
            self._b.transpose(0, 2, 1) @ by_b
            - inverse.transpose(0, 2, 1) @ by_a @ turned.transpose(0, 2, 1)
        )
        return float(np.square(error).sum()), gradient

    def rotations(self) -> Array:
        """Orthogonal Pᵢ that bring BᵢPᵢ and PᵢᵀAᵢ nearest to B₁ and A₁, both counted alike."""
        b, a = (
            matrices / np.maximum(np.linalg.norm(matrices, axis=(1, 2), keepdims=True), 1e-300)
            for matrices in (self._b, self._a)
        )
        left, _, right = np.linalg.svd(b.transpose(0, 2, 1) @ b[0] + a @ a[0].T)
        p = left @ right
        p[0] = np.eye(p.shape[1])
        return p


def _minimised(gap: _Gap, start: Array, iterations: int) -> Array:
    """P of the smallest gap that L-BFGS finds; the first one stays the identity."""
    scale = gap.value(start)
    if scale == 0 or iterations == 0 or len(start) == 1:
        return start

    def objective(entries: Array) -> tuple[float, Array]:
        p = np.concatenate([start[:1], entries.reshape(start[1:].shape)])
        if not _invertible(p):  # a step too long: a wall makes the line search shorten it
            return 1e12, np.zeros_like(entries)
        value, gradient = gap.value_and_gradient(p)
        return value / scale, gradient[1:].ravel() / scale

    limits: Any = {"maxiter": iterations, "maxfun": 4 * iterations, "ftol": 1e-10, "gtol": 1e-8}
    best = minimize(objective, start[1:].ravel(), jac=True, method="L-BFGS-B", options=limits)
    p = np.concatenate([start[:1], best.x.reshape(start[1:].shape)])
    return p if _invertible(p) else start


def _invertible(p: Array) -> bool:
    """Whether all matrices (n, r, r) are invertible, with room to spare."""
    return bool(np.isfinite(p).all() and (np.linalg.cond(p) < WORST_CONDITION).all())


def _coordinates(matrices: Array) -> Array:
    """Matrices (n, out, r) in an orthonormal basis of what their columns span."""
    count, _, rank = matrices.shape
    triangle = np.asarray(np.linalg.qr(np.concatenate(list(matrices), axis=1), mode="r"))
    return triangle.reshape(len(triangle), count, rank).transpose(1, 0, 2)


def _mean_norm(matrices: Array) -> float:
    norms = np.linalg.norm(matrices, axis=(1, 2))
    return float(norms.mean()) if len(norms) else 0.0
