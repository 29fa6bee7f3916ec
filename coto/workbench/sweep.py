"""Scores of a model with one set of an adapter's modules after another.

Sets that agree in the lowest blocks follow one another and share what these compute
(:mod:`coto.workbench.replay`): all 2ⁿ states of n blocks cost about two blocks a state.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd
from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Deltas
from coto.operators.place import place_of
from coto.tasks.task import Task
from coto.workbench.base import Scores, Workbench
from coto.workbench.changed import changed, switchable
from coto.workbench.replay import KEPT_BYTES, replaying

Mask = frozenset[str]
"""The modules that are on: their weights are W₀ + ΔW, those of the others W₀."""


def sweep(
    bench: Workbench,
    task: Task,
    rows: pd.DataFrame,
    change: Deltas,
    heads: Mapping[str, Tensor],
    masks: Sequence[Mask],
    limit: int = KEPT_BYTES,
) -> list[list[Scores]]:
    """Score every mask; equal ones are scored once.

    Scores are bit for bit those of :func:`coto.workbench.changed.changed` with the ΔW of the
    modules that are on, except that a language model is scored by ranking alone, without the KV
    cache of what all prompts begin with (:meth:`Workbench.sweeping`).

    Args:
        bench: ready for the task (:meth:`Workbench.for_task`).
        task: the task.
        rows: prepared rows of one part.
        change: ΔW of every adapted module.
        heads: trained heads, the same for all masks.
        masks: sets of modules of `change`, in any order.
        limit: bytes of blocks' outputs that are kept to be shared.

    Returns:
        What :meth:`Workbench.score` returns, one per mask, in the order given.

    Raises:
        CotoError: if a mask or the model lacks a module, an output is not finite, or there are no
            candidate answers that a language model could rank.
    """
    for unknown in sorted(frozenset[str]().union(*masks) - change.keys())[:1]:
        raise CotoError(f"mask: module {unknown!r}: expected one of the adapter's {len(change)}")
    places = {module: place_of(module) for module in change}
    found: dict[Mask, list[Scores]] = {}
    state = Mask()
    with (
        changed(bench.model, {}, heads) as model,
        switchable(model, change) as switch,
        replaying(model, {stack for stack, _ in places.values()}, limit) as replay,
        bench.sweeping(),
    ):
        for mask in _ordered(masks, places, replay.computed):
            switch(mask)
            replay.begin(_lowest(places[module] for module in mask ^ state))
            found[mask] = bench.score(model, task, rows)
            state = mask
    return [found[mask] for mask in masks]


def _ordered(
    masks: Sequence[Mask], places: Mapping[str, tuple[str, int]], costs: Counter[str]
) -> Iterator[Mask]:
    """Different masks so that neighbours agree in as many of the lowest blocks as they can.

    Args:
        masks: in any order.
        places: stack and block of every module.
        costs: of computing each stack, once the first mask has been scored. Of several stacks the
            costliest then changes most rarely.
    """

    def states(mask: Mask) -> list[bool]:
        ranks = {stack: rank for rank, (stack, _) in enumerate(costs.most_common())}
        network = sorted(places, key=lambda m: (ranks.get(places[m][0]), places[m][1]))
        return [module in mask for module in network]

    waiting = set(masks)
    if waiting:
        first = min(waiting, key=states)
        yield first
        yield from sorted(waiting - {first}, key=states)


def _lowest(places: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The lowest block of each stack."""
    return dict(sorted(places, reverse=True))  # of a stack's places the last one stays
