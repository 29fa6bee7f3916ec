"""LoRA-LEGO (Zhao et al. 2025): merge adapters rank by rank, by clustering.

A unit is one rank of one adapter: a row of A with the column of B that it feeds. k-means makes k
clusters of all adapters' units, whose centres are the ranks of the merged adapter. With as many
clusters as units its ΔW is the *sum* Σ ΔWᵢ; with k = r it lies between a sum and a mean.
Two reweightings correct the size: *parameter* stretches a centre to its members' mean norm,
*output* multiplies the product by √(r/k), r being the largest rank of the adapters.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from coto.adapters.delta import Adapters, Base, Factors, LowRankAdapter, deltas
from coto.errors import CotoError
from coto.operators.merge import Merged, check_mergeable, mean_magnitude, same_scaling
from coto.operators.operator import Norm, Units, operator

Array = np.ndarray[Any, Any]


@operator(
    "lora-lego",
    space="factors",
    order=4,
    settings={
        "k": None,
        "seed": 0,
        "parameter_reweighting": True,
        "output_reweighting": True,
        "units": "raw",
        "norm": "l2",
    },
)
def merge_lego(
    adapters: Adapters,
    weights: Sequence[float],
    base: Base,
    *,
    k: int | None,
    seed: int,
    parameter_reweighting: bool,
    output_reweighting: bool,
    units: Units,
    norm: Norm,
) -> Merged:
    """Ranks of all adapters clustered into k.

    The adapters may have any ranks, and the order of adapters and ranks does not matter; DoRA's
    magnitudes are averaged. `k` is the rank of the merge, None the adapters' largest rank. Units
    are clustered as they are (``raw``) or with the halves from A and from B scaled to norm 1 each
    (``normalised``); `norm` is what parameter reweighting compares, Euclidean (``l2``) or largest
    entry. CotoError if weights differ, or k is no number of clusters for that many units.
    """
    check_mergeable(adapters, weights)
    if len(set(weights)) > 1:
        raise CotoError(
            f"lora-lego: weights {', '.join(f'{w:g}' for w in weights)}: expected equal ones, "
            "for it clusters the ranks of all adapters in one pool"
        )
    adapters = same_scaling(adapters)
    modules, shares = {}, {}
    for name, first in adapters[0].modules.items():
        parts = [adapter.modules[name] for adapter in adapters]
        # (units, in + out): each row of A beside its column of B.
        rows = torch.cat([torch.cat([part.a, part.b.mT], dim=1) for part in parts])
        pool = rows.double().cpu().numpy()
        pool = pool[np.lexsort(pool.T[::-1])]
        rank, width = max(part.rank for part in parts), first.a.shape[1]
        clusters = rank if k is None else k
        if not 1 <= clusters <= len(pool):
            raise CotoError(
                f"lora-lego: k = {clusters}: expected 1 to {len(pool)}, the ranks of {name}"
            )
        points = pool
        if units == "normalised":
            halves = pool[:, :width], pool[:, width:]
            sizes = (np.linalg.norm(half, axis=1, keepdims=True) for half in halves)
            pairs = zip(halves, sizes, strict=True)
            points = np.hstack([half / np.where(size > 0, size, 1) for half, size in pairs])
        labels = _clusters(points, clusters, seed)
        centres, shares[name] = _centres(pool, labels, clusters, parameter_reweighting, norm)
        if output_reweighting:
            centres[:, width:] *= (rank / clusters) ** 0.5
        made = torch.from_numpy(centres).to(first.a)
        modules[name] = Factors(made[:, :width], made[:, width:].mT, mean_magnitude(parts, weights))
    adapter = LowRankAdapter(adapters[0].kind, adapters[0].scaling, modules, heads={})
    report = {"variance_within_clusters": float(np.mean(list(shares.values())))}
    by_module = {name: {"variance_within_clusters": share} for name, share in shares.items()}
    return Merged(deltas(adapter, base), adapter, report, by_module)


def _clusters(pool: Array, count: int, seed: int) -> Array:
    """The cluster of each unit."""
    if count == len(pool):  # nothing to cluster, also where units are equal
        return np.arange(count)
    with warnings.catch_warnings():
        # Fewer distinct units than clusters: some clusters stay empty, which is what we want.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(count, n_init=1, random_state=seed).fit(pool).labels_


def _centres(
    pool: Array, labels: Array, count: int, reweighting: bool, norm: Norm
) -> tuple[Array, float]:
    """Means of the clusters, zero where empty, (count, in + out); and the variance lost."""
    order = 2 if norm == "l2" else np.inf
    centres, within = np.zeros((count, pool.shape[1])), 0.0
    for cluster in range(count):
        members = pool[labels == cluster]
        if not len(members):
            continue
        centre = members.mean(axis=0)
        within += float(np.square(members - centre).sum())
        length = np.linalg.norm(centre, order)
        if reweighting and length > 0:
            centre = centre * (np.linalg.norm(members, order, axis=1).mean() / length)
        centres[cluster] = centre
    total = float(np.square(pool - pool.mean(axis=0)).sum())
    return centres, within / total if total else 0.0
