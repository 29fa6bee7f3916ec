"""Batches: the order of training items, a function of (seed, pass over the data) and nothing else.

The Trainer's own sampler of items of similar length draws from torch's global generator. Whatever
else draws from it, such as dropout in an adapter, moves the order of the next pass: two arms that
switch adapters differently would part, and so would a run that goes on from a checkpoint.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

T = TypeVar("T")


def token_batches(items: Iterable[T], length: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Items, which come in ascending length, as batches of at most `limit` padded tokens."""
    batch: list[T] = []
    for item in items:
        if batch and (len(batch) + 1) * length(item) > limit:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


class EpochCallback(TrainerCallback):
    """Says which pass over the data begins, or goes on.

    Accelerate's own call of ``set_epoch`` misses some of it in resumed passes and distributed runs.
    """

    def __init__(self, set_epoch: Callable[[int], None]) -> None:
        self._set_epoch = set_epoch

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say so."""
        self._set_epoch(math.floor((state.epoch or 0.0) + 1e-6))


class LengthGroupedSampler(Sampler[int]):
    """Rows so that neighbours are of similar length, in another order in every pass.

    Each pass is cut at random into lots of some batches, and each lot is sorted by length; the
    longest batch comes first (:func:`get_length_grouped_indices` of transformers). Passes follow
    each other in one stream of random numbers from `seed`, so that the order is that of the
    Trainer's own sampler where nothing else draws from its generator. `batch_size` is in rows of an
    optimizer step.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = list(lengths)
        self._batch_size = batch_size
        self._seed, self._epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Begin a pass over the data."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = torch.Generator().manual_seed(self._seed)
        for earlier in range(self._epoch + 1):
            # What a data loader draws for the seeds of its workers, before it asks for an order.
            torch.empty((), dtype=torch.int64).random_(generator=draw)
            if earlier < self._epoch:
                torch.randperm(len(self), generator=draw)
        return iter(get_length_grouped_indices(self._lengths, self._batch_size, generator=draw))


class GroupedTrainer(Trainer):
    """A Trainer that groups, if asked to, by ``length`` with :class:`LengthGroupedSampler`."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        args = self.args
        if args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        # What the model does not read, such as the lengths, may be gone from `train_dataset`.
        assert self.train_dataset is not None
        sampler = LengthGroupedSampler(
            self.train_dataset["length"],
            args.train_batch_size * args.gradient_accumulation_steps,
            args.seed if args.data_seed is None else args.data_seed,
        )
        self.add_callback(EpochCallback(sampler.set_epoch))
        return sampler
