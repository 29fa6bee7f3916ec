"""Where adapters lie in weight space: angles and distances between their ΔW, and a map of them.

As in the authors' rebuttal figures r4 (runs beside each other and W₀) and r9 (t-SNE). The printed
numbers of r4 agree only if cosine and distance are means over modules, and *pretrained* compares ΔW
with W₀. LoRA's inner products need no ΔW: ⟨B₁A₁, B₂A₂⟩ = ⟨B₂ᵀB₁, A₂A₁ᵀ⟩ and ⟨BA, W₀⟩ = ⟨B, W₀Aᵀ⟩.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from torch import Tensor

from coto.adapters.delta import Adapters, Base, delta
from coto.adapters.kinds import KINDS
from coto.analysis.shapley import Array
from coto.errors import CotoError

# Adapters in a t-SNE: with fewer, the default perplexity is below one neighbour.
_FEWEST = 4


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


def geometry(adapters: Adapters, base: Base) -> Geometry:
    """Compare adapters of one kind, of any ranks and scalings, in double precision.

    Distances come from inner products, which blurs them by about 1e-8 ‖ΔW‖. ΔW is formed only
    where it is no plain product s·BA, and of one module at a time. CotoError if there are no
    adapters, or their kinds or modules differ.
    """
    kinds = sorted({adapter.kind for adapter in adapters})
    if len(kinds) != 1:
        names = ", ".join(kinds) or "of no adapters"
        raise CotoError(f"geometry: kinds {names}: expected one kind")
    for adapter in adapters[1:]:
        if odd := sorted(adapter.modules.keys() ^ adapters[0].modules.keys()):
            raise CotoError(
                f"geometry: only some adapters have {odd[0]}: expected the same modules"
            )
    cosines, distances, norms = [], [], []
    for name in adapters[0].modules:
        products = _inner_products(adapters, name, base[name].double()).cpu().numpy()
        products = (products + products.T) / 2  # symmetric to the last bit
        squares = products.diagonal()
        norm = np.sqrt(squares.clip(min=0))
        sizes = np.outer(norm, norm)
        cosine = np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0)
        cosines.append(cosine.clip(-1, 1))
        distances.append(np.sqrt((squares[:, None] + squares - 2 * products).clip(min=0)))
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
    """Places in the plane by t-SNE, near to each other where distances (n, n) are small (n, 2).

    The exact method from a random start. The perplexity is below n; None for min(30, (n − 1)/3).
    CotoError for fewer than four adapters, or a perplexity out of range.
    """
    count = len(distance)
    if count < _FEWEST:
        raise CotoError(f"t-SNE: {count} adapters: expected {_FEWEST} or more")
    if perplexity is None:
        perplexity = min(30.0, (count - 1) / 3)
    if not 1 <= perplexity < count:
        raise CotoError(f"t-SNE: perplexity = {perplexity}: expected from 1 to below {count}")
    how = {"metric": "precomputed", "init": "random", "method": "exact"}
    tsne = TSNE(perplexity=perplexity, random_state=seed, **how)
    # A copy, for scikit-learn squares the distances in place.
    return tsne.fit_transform(distance.copy()).astype(float)


def _inner_products(adapters: Adapters, module: str, weight: Tensor) -> Tensor:
    """Inner products of ΔW₁ … ΔWₙ and W₀ of one module (n + 1, n + 1)."""
    factors = [_doubled(adapter.modules[module]) for adapter in adapters]
    pairs = list(zip(adapters, factors, strict=True))
    if KINDS[adapters[0].kind].product != "plain":
        changes = [delta(one.kind, one.scaling, part, weight) for one, part in pairs]
        points = torch.stack([*changes, weight]).flatten(start_dim=1)
        return points @ points.mT
    a = torch.cat([part.a for part in factors])
    b = torch.cat([part.b for part in factors], dim=1)
    # Row i adds up the ranks of adapter i, with its scaling.
    rows = torch.block_diag(*(a.new_full((1, part.rank), one.scaling) for one, part in pairs))
    inner = rows @ ((b.mT @ b) * (a @ a.mT)) @ rows.mT
    with_weight = rows @ (b * (weight @ a.mT)).sum(dim=0, keepdim=True).mT
    corner = weight.square().sum().reshape(1, 1)
    below = torch.cat([with_weight.mT, corner], dim=1)
    return torch.cat([torch.cat([inner, with_weight], dim=1), below])


def _doubled(parts: Any) -> Any:
    """The parts of a layer, of any kind, in double precision."""
    return type(parts)(**{k: None if t is None else t.double() for k, t in vars(parts).items()})
