"""Where adapters lie in weight space: angles and distances between their ΔW, and a map of them.

The figures are those of the authors' rebuttal: r4 compares runs with each other and with the
pretrained weights, r9 maps them by t-SNE. How r4 averages is inferred from its printed numbers
(‖W₀ − ΔW‖ = 10.61 beside ‖ΔW₁ − ΔW₂‖ = 1.85 at a cosine of 0.16), which agree only if cosine and
distance are taken module by module, averaged over modules, and *pretrained* compares ΔW with W₀.

Everything follows from Frobenius inner products. LoRA's need no ΔW: ⟨B₁A₁, B₂A₂⟩ =
⟨B₂ᵀB₁, A₂A₁ᵀ⟩, matrices of the size of the ranks, and ⟨BA, W₀⟩ = ⟨B, W₀Aᵀ⟩.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.manifold import TSNE
from torch import Tensor

from coto.analysis.masks import Array
from coto.errors import CotoError
from coto.operators.adapter import Factors, LowRankAdapter, delta

_FEWEST = 4
"""Adapters in a t-SNE: with fewer, the default perplexity is below one neighbour."""


@dataclass(frozen=True)
class Geometry:
    """Angles and distances between n adapters; means are over modules.

    Attributes:
        cosine: mean cosine of ΔWᵢ and ΔWⱼ (n, n); 0 in modules where one of them is zero.
        euclidean: mean ‖ΔWᵢ − ΔWⱼ‖ (n, n).
        distance: ‖ΔWᵢ − ΔWⱼ‖ of all modules together (n, n), for :func:`embed`.
        pretrained_cosine: mean cosine of ΔW and W₀ (n,).
        pretrained_euclidean: mean ‖ΔW − W₀‖ (n,).
        norm: mean ‖ΔW‖ (n,), the distance from where training started.
    """

    cosine: Array
    euclidean: Array
    distance: Array
    pretrained_cosine: Array
    pretrained_euclidean: Array
    norm: Array


def geometry(adapters: Sequence[LowRankAdapter], base: Mapping[str, Tensor]) -> Geometry:
    """Compare adapters of one kind, of any ranks and scalings, in double precision.

    Distances come from inner products, which blurs them by about 1e-8 ‖ΔW‖. ΔW is formed for DoRA
    and HiRA only, and of one module at a time.

    Args:
        adapters: the adapters.
        base: base weights by module name; must hold every adapted module.

    Raises:
        CotoError: if there are no adapters, or their kinds or modules differ.
    """
    _check(adapters)
    cosines, distances, norms = [], [], []
    for name in adapters[0].modules:
        products = _inner_products(adapters, name, base[name].double()).cpu().numpy()
        products = (products + products.T) / 2  # symmetric to the last bit
        norm = np.sqrt(products.diagonal().clip(min=0))
        cosines.append(_cosines(products, norm))
        distances.append(_distances(products))
        norms.append(norm)
    cosine, euclidean = np.mean(cosines, axis=0), np.mean(distances, axis=0)
    whole = np.sqrt(np.square(distances).sum(axis=0))
    return Geometry(
        cosine=cosine[:-1, :-1],
        euclidean=euclidean[:-1, :-1],
        distance=whole[:-1, :-1],
        pretrained_cosine=cosine[:-1, -1],
        pretrained_euclidean=euclidean[:-1, -1],
        norm=np.mean(norms, axis=0)[:-1],
    )


def embed(distance: Array, seed: int, perplexity: float | None = None) -> Array:
    """Places in the plane by t-SNE, near to each other where distances are small (n, 2).

    Axes and scale mean nothing. The exact method from a random start: it depends on `distance`,
    `seed` and `perplexity` only.

    Args:
        distance: distances between n adapters (n, n).
        seed: of the start.
        perplexity: effective number of neighbours, below n; None for min(30, (n − 1)/3).

    Raises:
        CotoError: if there are fewer than four adapters, or the perplexity is out of range.
    """
    count = len(distance)
    if count < _FEWEST:
        raise CotoError(f"t-SNE: {count} adapters: expected {_FEWEST} or more")
    if perplexity is None:
        perplexity = min(30.0, (count - 1) / 3)
    if not 1 <= perplexity < count:
        raise CotoError(f"t-SNE: perplexity = {perplexity}: expected from 1 to below {count}")
    tsne = TSNE(
        metric="precomputed",
        init="random",
        method="exact",
        perplexity=perplexity,
        random_state=seed,
    )
    # A copy, for scikit-learn squares the distances in place.
    return tsne.fit_transform(distance.copy()).astype(float)


def _check(adapters: Sequence[LowRankAdapter]) -> None:
    kinds = sorted({adapter.kind for adapter in adapters})
    if len(kinds) != 1:
        raise CotoError(
            f"geometry: kinds {', '.join(kinds) or 'of no adapters'}: expected one kind"
        )
    for adapter in adapters[1:]:
        if odd := sorted(adapter.modules.keys() ^ adapters[0].modules.keys()):
            raise CotoError(
                f"geometry: only some adapters have {odd[0]}: expected the same modules"
            )


def _inner_products(adapters: Sequence[LowRankAdapter], module: str, weight: Tensor) -> Tensor:
    """Inner products of ΔW₁ … ΔWₙ and W₀ of one module (n + 1, n + 1)."""
    factors = [_double(adapter.modules[module]) for adapter in adapters]
    pairs = list(zip(adapters, factors, strict=True))
    if adapters[0].kind != "lora":
        changes = [delta(one.kind, one.scaling, part, weight) for one, part in pairs]
        points = torch.stack([*changes, weight]).flatten(start_dim=1)
        return points @ points.mT
    a = torch.cat([part.a for part in factors])
    b = torch.cat([part.b for part in factors], dim=1)
    # Row i adds up the ranks of adapter i, with its scaling.
    rows = torch.block_diag(*(a.new_full((1, part.rank), one.scaling) for one, part in pairs))
    changes_with_changes = rows @ ((b.mT @ b) * (a @ a.mT)) @ rows.mT
    changes_with_weight = rows @ (b * (weight @ a.mT)).sum(dim=0, keepdim=True).mT
    weight_with_weight = weight.square().sum().reshape(1, 1)
    return torch.cat(
        [
            torch.cat([changes_with_changes, changes_with_weight], dim=1),
            torch.cat([changes_with_weight.mT, weight_with_weight], dim=1),
        ]
    )


def _double(factors: Factors) -> Factors:
    magnitude = factors.magnitude
    return Factors(
        factors.a.double(),
        factors.b.double(),
        None if magnitude is None else magnitude.double(),
    )


def _cosines(products: Array, norms: Array) -> Array:
    sizes = np.outer(norms, norms)
    cosines = np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0)
    return cosines.clip(-1, 1)


def _distances(products: Array) -> Array:
    squares = products.diagonal()
    return np.sqrt((squares[:, None] + squares - 2 * products).clip(min=0))
