"""A pretrained model with its tasks, whatever it reads: each family of backbones is one class.

Measurements train, change and score adapters without knowing whether the model classifies texts,
continues them or looks at images. A new family is one file with a :class:`TaskModel`, and one entry
in :data:`coto.models.settings.FAMILIES`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from coto.device import Compute
from coto.errors import CotoError
from coto.models.settings import FAMILIES, Backbone, Loading
from coto.tasks.task import Task


@dataclass(frozen=True)
class Scores:
    """How a model did on one evaluation set, called `task`.

    Accuracies and F1 are in [0, 1], correlations in [-1, 1]. `items` has a row per item, in order:
    ``idx``, ``answer``, ``prediction``, ``correct``. The mean `loss` is cross-entropy in nats, a
    regression's squared error, or the negative log-likelihood in nats of a language model's right
    answers, NaN if these were only generated. A classifier's `outputs` are logits (items, classes),
    fp32, or a regression's values (items, 1); its `targets`, (items,), class numbers or values.
    """

    task: str
    metrics: Mapping[str, float]
    headline: str  # the metric quoted in tables
    items: pd.DataFrame
    collapsed: bool = False  # every item got the same answer
    truncated: int = 0  # items longer than the model may read
    left_out: int = 0  # items longer than the limit that were left out beforehand
    loss: float = nan
    outputs: np.ndarray | None = None
    targets: np.ndarray | None = None


@dataclass(frozen=True)
class TrainingSet:
    """Rows in the form that :class:`coto.models.batches.GroupedTrainer` takes.

    `collate` makes a batch of items, ``labels`` among its keys. Where batches are `grouped` by
    length, the map-style `dataset` has a column ``length``.
    """

    dataset: Any
    collate: Callable[[list[Any]], dict[str, Any]]
    rows: int  # in one epoch
    truncated: int = 0  # rows longer than the limit
    left_out: int = 0  # rows longer than the limit that were left out beforehand
    grouped: bool = False
    callbacks: tuple[Any, ...] = ()  # of the Trainer, for data that depend on its progress
    summary: Mapping[str, Any] = field(default_factory=dict)  # more numbers for the run's record


class TaskModel(ABC):
    """A pretrained model without adapters, and how its tasks are trained and scored.

    Called with a batch of :class:`TrainingSet`, its model returns an object with ``loss``. `seed`
    is that of whatever is initialised or drawn: both arms of a pair have the same. `cache` is a
    folder for what takes long to make. Raises CotoError if the model cannot be loaded.
    """

    model: nn.Module
    heads: tuple[str, ...] = ()  # modules that are trained in full and saved with the adapter
    peft_task: str | None = None  # as PEFT calls it

    def __init__(
        self, loading: Loading, compute: Compute, seed: int = 0, cache: Path | None = None
    ) -> None:
        self._train, self._evaluation = loading.training, loading.evaluation
        self._compute, self._seed, self._cache = compute, seed, cache
        self._load(loading)

    @abstractmethod
    def _load(self, loading: Loading) -> None:
        """Load :attr:`model`, to the CPU, and set what its class needs besides."""

    def set_task(  # noqa: B027
        self, task: Task, rows: pd.DataFrame, prototypes: pd.DataFrame | None = None
    ) -> None:
        """Make ready for a task, before any adapter: the head, the prompts of its classes.

        `prototypes` are rows that a head is made of, for one that is (`head` of a suite).
        """

    @abstractmethod
    def training_set(self, task: Task, rows: pd.DataFrame) -> TrainingSet:
        """Prepared rows as training data."""

    @abstractmethod
    def score(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> list[Scores]:
        """Score :attr:`model` with changed weights, or a PEFT model around it, on prepared rows.

        There is one entry per evaluation set; :meth:`set_task` was called for the task. Raises
        CotoError if an output is not finite.
        """

    def features(self, task: Task, rows: pd.DataFrame) -> np.ndarray | None:
        """What a linear probe reads of :attr:`model` without adapters: (rows, dimensions), fp32.

        None if the family has no such features.
        """
        return None

    def replayable(self) -> AbstractContextManager[None]:
        """Score, inside, so that blocks may be replayed (:class:`coto.models.weights.Replay`)."""
        return nullcontext()

    def replays_all(self, rows: pd.DataFrame) -> bool:
        """Whether :meth:`score` gives all that it can give on these rows while blocks replay."""
        return True


class HeadInput(nn.Module):
    """A model whose ``logits`` are what its head reads, (items, dimensions).

    Of a sequence it is the first token, as heads of encoders read it.
    """

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.model, self._read = model, list[Tensor]()
        self._hook = head.register_forward_pre_hook(lambda _, inputs: self._read.append(inputs[0]))

    def forward(self, **inputs: Any) -> SimpleNamespace:
        """Run the model up to its end; the head's own answer is not needed."""
        self._read.clear()
        self.model(**inputs)
        read = self._read[0]
        return SimpleNamespace(logits=read[:, 0] if read.ndim == 3 else read)

    def remove(self) -> None:
        """Leave the model as it was."""
        self._hook.remove()


def load_model(
    loading: Loading, compute: Compute, seed: int = 0, cache: Path | None = None
) -> TaskModel:
    """Load a backbone as its family does, and put it on its device (see :class:`TaskModel`)."""
    module, _, name = FAMILIES[loading.backbone.family].code.partition(":")
    loaded: TaskModel = getattr(import_module(module), name)(loading, compute, seed, cache)
    loaded.model.to(compute.device)
    return loaded


def locate(backbone: Backbone) -> tuple[str, dict[str, Any]]:
    """Where a backbone's files are: a directory or hub id, and arguments for loading.

    The ``path`` of one out of a wheel is the folder that it was converted to. Raises CotoError if
    the package is not installed, there is no such directory, or the model was not converted.
    """
    if backbone.package is not None:
        spec = find_spec(backbone.package)
        if spec is None or spec.origin is None:
            raise CotoError(f"backbone package = {backbone.package!r}: expected it installed")
        return str(Path(spec.origin).parent / backbone.subfolder), {}
    if backbone.path is not None:
        folder = Path(backbone.path).expanduser()
        if not (folder / "config.json").is_file():
            made = ", which stage `convert` makes" if backbone.wheel is not None else ""
            expected = f"expected a directory with a config.json{made}"
            raise CotoError(f"backbone path = {backbone.path!r}: {expected}")
        return str(folder), {}
    if backbone.hub is None:
        expected = "expected `path` to name the folder that stage `convert` made of it"
        raise CotoError(f"backbone wheel = {backbone.wheel!r}: {expected}")
    return backbone.hub, {"revision": backbone.revision}


def load_pretrained(
    kind: Any,
    backbone: Backbone,
    device: torch.device,
    dropout: float,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> tuple[Any, Any, set[str]]:
    """A model of transformers, its tokenizer, and the parameters that its files do not have.

    The model, of a class or of one of transformers' automatic ones, is loaded to the CPU, though it
    will compute on `device`. All dropout inside it, while it trains, has the same probability;
    `changes` are to its configuration. Raises CotoError if files or network are at fault.
    """
    from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, logging

    logging.disable_progress_bar()
    where, source = locate(backbone)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **source)
        config = AutoConfig.from_pretrained(where, **changes, **source)
        _shorten(config, backbone, where)
        inner = [part for part in vars(config).values() if isinstance(part, PreTrainedConfig)]
        for part in (config, *inner):
            for name, value in vars(part).items():
                is_rate = re.search(r"drop(out)?(_prob|_rate|_p)?$", name)
                if is_rate and isinstance(value, float | None):
                    setattr(part, name, dropout)
        # On a CPU the backward pass of torch's fused attention takes longer than all the rest.
        attention = "eager" if device.type == "cpu" else None
        options = {"attn_implementation": attention, "dtype": dtype, "output_loading_info": True}
        with silence() if backbone.blocks is not None else nullcontext():
            model, report = kind.from_pretrained(where, config=config, **options, **source)
    except (OSError, ValueError) as error:
        raise CotoError(f"backbone = {where!r}: cannot be loaded ({first_line(error)})") from error
    return model, tokenizer, set(report["missing_keys"])


@contextmanager
def silence() -> Iterator[None]:
    """Without warnings of transformers, such as of weights of blocks that are not wanted."""
    from transformers import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _shorten(config: Any, backbone: Backbone, where: str) -> None:
    """Leave a model's configuration the first blocks; weights of the others are not read."""
    if (blocks := backbone.blocks) is None:
        return
    if blocks > config.num_hidden_layers:
        expected = f"expected at most {config.num_hidden_layers}, as many as {where!r} has"
        raise CotoError(f"backbone blocks = {blocks}: {expected}")
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:blocks]
    config.num_hidden_layers = blocks


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
