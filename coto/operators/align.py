"""LoRA-align: rotate the ranks of adapters towards each other before they are fused.

BA = (BP)(P⁻¹A) for any invertible P (r, r): an adapter's ΔW does not fix its factors, but fusion
depends on them. Every adapter but the first gets the P that shrinks the gap between fusion and
ensemble,

    ‖ΔW_f − ΔW_m‖ = ‖(Σ wᵢBᵢPᵢ)(Σ wᵢPᵢ⁻¹Aᵢ) − Σ wᵢBᵢAᵢ‖  (Frobenius, times the scaling),

which for two adapters is w₁w₂‖(B₁ − B₂P)(A₁ − P⁻¹A₂)‖: the best P does not depend on their shares.
The first adapter keeps P = I, for a rotation common to all adapters changes nothing.

The paper names no optimiser. Ours is L-BFGS (SciPy) on the entries of the Pᵢ with the exact
gradient, in double precision, from P = I; or from the orthogonal matrices that bring factors
nearest to the first adapter's (Procrustes), which makes the result independent of any rotation
that the adapters come with. The gap can only shrink: a P that does not help is not taken.

The gap is that of ΔW for LoRA and HiRA (there BA is multiplied by W₀). DoRA normalises its rows, so
that ΔW is no product of factors: there it is that of s·BA, and magnitudes are averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Factors, LowRankAdapter
from coto.operators.merge import check_mergeable, fusion, same_scaling
from coto.operators.merged import Merged, from_adapter
from coto.operators.operator import Start

Array = np.ndarray[Any, np.dtype[np.float64]]

# Beyond this ‖P‖‖P⁻¹‖ a rotation in single precision would no longer leave ΔW as it was.
WORST_CONDITION = 1e5


@dataclass(frozen=True)
class Alignment:
    """Adapters with aligned factors and unchanged ΔW.

    Attributes:
        adapters: The aligned adapters; fuse them with any weights.
        modules: By module: ``gap_before`` and ``gap_after`` as ‖ΔW_f − ΔW_m‖, and ``p_distance``
            ‖P − I‖ and ``p_norm`` ‖P‖, means over the adapters that have a P. Frobenius norms.
    """

    adapters: list[LowRankAdapter]
    modules: dict[str, dict[str, float]]

    @property
    def report(self) -> dict[str, float]:
        """Means over the modules."""
        rows = list(self.modules.values())
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else {}


def align(
    adapters: Sequence[LowRankAdapter],
    weights: Sequence[float],
    base: Mapping[str, Tensor],
    *,
    start: Start = "identity",
    iterations: int = 200,
) -> Alignment:
    """Align the factors of adapters; heads stay.

    Args:
        adapters: the adapters, of equal ranks; different scalings are folded into B.
        weights: the shares at which the gap is measured.
        base: base weights by module name; read for HiRA.
        start: ``identity`` or ``rotation`` (Procrustes).
        iterations: of L-BFGS at most, per module.

    Raises:
        CotoError: if ranks differ, or an argument is out of its range.
    """
    check_mergeable(adapters, weights)
    if start not in get_args(Start):
        raise CotoError(f"lora-align: start = {start!r}: expected identity or rotation")
    if iterations < 0:
        raise CotoError(f"lora-align: iterations = {iterations}: expected 0 or more")
    adapters = same_scaling(adapters)
    kind = adapters[0].kind
    scaling = 1.0 if kind == "hira" else adapters[0].scaling
    aligned: list[dict[str, Factors]] = [{} for _ in adapters]
    modules = {}
    for name, first in adapters[0].modules.items():
        parts = [adapter.modules[name] for adapter in adapters]
        for part in parts:
            if part.rank != first.rank:
                raise CotoError(
                    f"lora-align: ranks {first.rank} and {part.rank} of {name}: expected equal ones"
                )
        gap = _Gap(parts, weights, base[name] if kind == "hira" else None)
        identity = np.stack([np.eye(first.rank)] * len(parts))
        before = gap.value(identity)
        found = _minimised(gap, gap.rotations() if start == "rotation" else identity, iterations)
        after = gap.value(found)
        if not after < before:
            found, after = identity, before
        for part, p, made in zip(parts, found, aligned, strict=True):
            there, back = torch.from_numpy(p), torch.from_numpy(np.linalg.inv(p))
            made[name] = replace(
                part,
                a=(back @ part.a.double().cpu()).to(part.a),
                b=(part.b.double().cpu() @ there).to(part.b),
            )
        modules[name] = {
            "gap_before": abs(scaling) * before**0.5,
            "gap_after": abs(scaling) * after**0.5,
            "p_distance": _mean_norm(found[1:] - identity[1:]),
            "p_norm": _mean_norm(found[1:]),
        }
    made_adapters = [
        replace(adapter, modules=factors)
        for adapter, factors in zip(adapters, aligned, strict=True)
    ]
    return Alignment(made_adapters, modules)


def merge_aligned(
    adapters: Sequence[LowRankAdapter],
    weights: Sequence[float],
    base: Mapping[str, Tensor],
    *,
    start: Start,
    iterations: int,
) -> Merged:
    """Fusion of the aligned adapters, with gaps and sizes of P in the report."""
    found = align(adapters, weights, base, start=start, iterations=iterations)
    return from_adapter(fusion(found.adapters, weights), base, found.report, found.modules)


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
        b, a = self._b, self._a
        size_b = np.maximum(np.linalg.norm(b, axis=(1, 2), keepdims=True), 1e-300)
        size_a = np.maximum(np.linalg.norm(a, axis=(1, 2), keepdims=True), 1e-300)
        b, a = b / size_b, a / size_a
        left, _, right = np.linalg.svd(b.transpose(0, 2, 1) @ b[0] + a @ a[0].T)
        found = left @ right
        found[0] = np.eye(found.shape[1])
        return found


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

    found = minimize(
        objective,
        start[1:].ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxfun": 4 * iterations, "ftol": 1e-10, "gtol": 1e-8},
    )
    p = np.concatenate([start[:1], found.x.reshape(start[1:].shape)])
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
