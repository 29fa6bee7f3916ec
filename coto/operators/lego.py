"""LoRA-LEGO (Zhao et al. 2025): merge adapters rank by rank, by clustering.

A unit is one rank of one adapter: a row of A with the column of B that it feeds, for BA is their
sum over ranks, in any order. Units of all adapters are pooled, k-means makes k clusters of them,
and the cluster centres are the ranks of the merged adapter. With as many clusters as units that is
the concatenation, whose ΔW is the *sum* Σ ΔWᵢ; with k = r it lies between a sum and a mean.

Two reweightings correct the size. *Parameter*: a mean of units is shorter than the units, so a
centre is stretched to its members' mean norm. *Output*: a product of k ranks varies more than one
of r, so it is multiplied by √(r/k), r being the largest rank of the adapters.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Factors, LowRankAdapter
from coto.operators.merge import check_mergeable, mean_magnitude, same_scaling
from coto.operators.merged import Merged, from_adapter
from coto.operators.operator import Norm, Units

Array = np.ndarray[Any, Any]


def merge_lego(
    adapters: Sequence[LowRankAdapter],
    weights: Sequence[float],
    base: Mapping[str, Tensor],
    *,
    k: int | None,
    seed: int,
    parameter_reweighting: bool,
    output_reweighting: bool,
    units: Units,
    norm: Norm,
) -> Merged:
    """LoRA-LEGO of adapters of any ranks; DoRA's magnitudes are averaged.

    The units are put into one order before clustering, so that the order of adapters, and of
    ranks within them, does not matter.

    Args:
        adapters: the adapters.
        weights: equal ones: a pool of units has no weights.
        base: base weights by module name.
        k: number of clusters, the rank of the merge; None for the adapters' largest rank.
        seed: of k-means (one run of k-means++ and Lloyd steps per seed, so that seeds differ).
        parameter_reweighting: stretch centres to their members' mean norm.
        output_reweighting: multiply the product by √(r/k).
        units: cluster the units as they are (``raw``), or with the halves from A and from B scaled
            to norm 1 each (``normalised``); centres are means of the units as they are.
        norm: which norm parameter reweighting compares, Euclidean (``l2``) or largest entry.

    Raises:
        CotoError: if weights differ, or k is no number of clusters for that many units.
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
        pool = np.concatenate([_units(part) for part in parts])
        pool = pool[np.lexsort(pool.T[::-1])]
        rank = max(part.rank for part in parts)
        clusters = rank if k is None else k
        if not 1 <= clusters <= len(pool):
            raise CotoError(
                f"lora-lego: k = {clusters}: expected 1 to {len(pool)}, the ranks of {name}"
            )
        width = first.a.shape[1]
        labels = _clusters(_scaled(pool, width, units), clusters, seed)
        centres, shares[name] = _centres(pool, labels, clusters, parameter_reweighting, norm)
        if output_reweighting:
            centres[:, width:] *= (rank / clusters) ** 0.5
        made = torch.from_numpy(centres).to(first.a)
        modules[name] = Factors(made[:, :width], made[:, width:].mT, mean_magnitude(parts, weights))
    adapter = LowRankAdapter(adapters[0].kind, adapters[0].scaling, modules, heads={})
    share = float(np.mean(list(shares.values())))
    return from_adapter(
        adapter,
        base,
        {"variance_within_clusters": share},
        {name: {"variance_within_clusters": value} for name, value in shares.items()},
    )


def _units(factors: Factors) -> Array:
    """(rank, in + out): each row of A beside its column of B."""
    return torch.cat([factors.a, factors.b.mT], dim=1).double().cpu().numpy()


def _scaled(pool: Array, width: int, units: Units) -> Array:
    if units == "raw":
        return pool
    halves = [pool[:, :width], pool[:, width:]]
    norms = [np.linalg.norm(half, axis=1, keepdims=True) for half in halves]
    return np.hstack([h / np.where(n > 0, n, 1) for h, n in zip(halves, norms, strict=True)])


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
