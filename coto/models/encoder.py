"""Sequence classifiers on pretrained encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import transformers
from datasets import Dataset
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from coto.device import Compute
from coto.models.base import HeadInput, Scores, TaskModel, TrainingSet, load_pretrained, silence
from coto.models.batches import token_batches
from coto.models.fitting import left_out
from coto.models.scoring import scored
from coto.models.settings import Backbone, Loading
from coto.tasks.task import Task
from coto.tasks.text import TextTask


class Encoder(NamedTuple):
    """A classifier without adapters, its tokenizer, and its heads, which its files do not have."""

    model: transformers.PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    heads: tuple[str, ...]


def load(
    backbone: Backbone, device: torch.device, *, num_labels: int, seed: int, dropout: float = 0.0
) -> Encoder:
    """Load a pretrained encoder with a fresh head (:func:`coto.models.base.load_pretrained`).

    The head, initialised from `seed`, has as many classes as `num_labels`; 1 is regression.
    """
    torch.manual_seed(seed)
    with silence():  # a fresh head is what we ask for
        model, tokenizer, missing = load_pretrained(
            AutoModelForSequenceClassification, backbone, device, dropout, num_labels=num_labels
        )
    # Outermost modules of which the checkpoint had no parameter at all.
    heads: list[str] = []
    parameters = [name for name, _ in model.named_parameters()]
    for name, _ in model.named_modules():
        own = {parameter for parameter in parameters if parameter.startswith(f"{name}.")}
        inside = any(name.startswith(f"{outer}.") for outer in heads)
        if name and own and own <= missing and not inside:
            heads.append(name)
    return Encoder(model, tokenizer, tuple(heads))


class Encoded(NamedTuple):
    """Tokenised rows with their labels, and how many were longer than the limit."""

    inputs: list[dict[str, list[int]]]
    labels: list[int] | list[float]
    truncated: int


def encode(frame: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Tokenise ``text`` and ``text_pair``, if there is one; longer rows are cut to `max_length`."""
    texts = [frame[column].tolist() for column in ("text", "text_pair") if column in frame]
    whole = tokenizer(*texts, truncation=True, max_length=max_length)
    untruncated = tokenizer(*texts, truncation=False, verbose=False)["input_ids"]
    columns = [name for name in tokenizer.model_input_names if name in whole]
    inputs = [{column: whole[column][i] for column in columns} for i in range(len(frame))]
    truncated = sum(len(ids) > max_length for ids in untruncated)
    return Encoded(inputs, frame["label"].tolist(), truncated)


def predict(
    model: nn.Module,
    rows: Sequence[Mapping[str, list[int]]],
    tokenizer: PreTrainedTokenizerBase,
    compute: Compute,
    batch_tokens: int,
) -> np.ndarray:
    """Logits of every row, (rows, labels), fp32, in order; batches hold rows of similar length."""
    model.eval()
    lengths = [len(row["input_ids"]) for row in rows]
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    logits: dict[int, np.ndarray] = {}
    # One autocast for all batches: it casts every weight once and keeps the result.
    with torch.inference_mode(), compute.autocast():
        for batch in token_batches(order, lengths.__getitem__, batch_tokens):
            inputs = tokenizer.pad([dict(rows[i]) for i in batch], return_tensors="pt")
            output = model(**inputs.to(compute.device)).logits
            logits.update(zip(batch, output.float().cpu().numpy(), strict=True))
    return np.stack([logits[i] for i in range(len(rows))])


FROZEN_SEED = 0
"""Of frozen heads: runs that do not train their head share it, whatever their own seed."""


class TextClassifier(TaskModel):
    """An encoder with a classification head; ``loading.num_labels`` is the width of a fresh one.

    A frozen head is a function of its width alone. It is no part of what is trained and saved, so
    that all runs of a suite can be merged under it, and without adapters all are one model.
    """

    def _load(self, loading: Loading) -> None:
        self._backbone, frozen = loading.backbone, loading.head == "frozen"
        self._width, seed = loading.num_labels or 2, FROZEN_SEED if frozen else self._seed
        self.model, self._tokenizer, heads = self._fresh(self._width, seed)
        self._frozen = heads if frozen else ()
        # PEFT trains the head of what it is told to be a classifier.
        self.heads, self.peft_task = ((), None) if frozen else (heads, "SEQ_CLS")
        self._head = heads[0]
        # The rows of a task that were encoded last: operators score the same ones many times.
        self._encoded: dict[str, tuple[pd.DataFrame, Encoded]] = {}

    def _fresh(self, width: int, seed: int) -> Encoder:
        device, dropout = self._compute.device, self._train.backbone_dropout
        return load(self._backbone, device, num_labels=width, seed=seed, dropout=dropout)

    def set_task(
        self, task: Task, rows: pd.DataFrame, prototypes: pd.DataFrame | None = None
    ) -> None:
        """A frozen head as wide as the task has classes; others come with the adapters."""
        assert isinstance(task, TextTask)
        if not self._frozen or self._width == task.num_labels:
            return
        self._width, other = task.num_labels, self._fresh(task.num_labels, FROZEN_SEED).model
        for name in self._frozen:
            head = other.get_submodule(name).requires_grad_(False)
            self.model.set_submodule(name, head.to(self._compute.device))
        # By these the model computes its loss.
        settings: Any = self.model.config
        settings.num_labels = self._width
        vars(self.model)["num_labels"] = self._width

    def training_set(self, task: Task, rows: pd.DataFrame) -> TrainingSet:
        """Tokenised rows; longer ones are cut to the task's length."""
        inputs, labels, truncated = self._encode(task, rows)
        items = [
            {**row, "labels": label, "length": len(row["input_ids"])}
            for row, label in zip(inputs, labels, strict=True)
        ]
        collate = transformers.DataCollatorWithPadding(self._tokenizer)
        grouped = self._train.layout == "length"
        data, left = Dataset.from_list(items), left_out(task.name, rows)
        return TrainingSet(data, collate, len(items), truncated, left, grouped)

    def score(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> list[Scores]:
        """Every metric of the task on these rows."""
        assert isinstance(task, TextTask)
        inputs, labels, truncated = self._encode(task, rows)
        room, truth = self._evaluation.batch_tokens, np.asarray(labels)
        logits = predict(model, inputs, self._tokenizer, self._compute, room)
        found = scored(task, rows, logits, truth, task.num_labels, truncated=truncated)
        return [replace(found, left_out=left_out(task.name, rows))]

    def features(self, task: Task, rows: pd.DataFrame) -> np.ndarray:
        """What the head reads, (rows, dimensions), fp32: of the first token, or pooled."""
        inputs = self._encode(task, rows).inputs
        reader = HeadInput(self.model, self.model.get_submodule(self._head))
        try:
            room = self._evaluation.batch_tokens
            return predict(reader, inputs, self._tokenizer, self._compute, room)
        finally:
            reader.remove()

    def _encode(self, task: Task, rows: pd.DataFrame) -> Encoded:
        known, encoded = self._encoded.get(task.name, (None, None))
        if encoded is None or known is not rows:
            encoded = encode(rows, self._tokenizer, self._evaluation.max_lengths[task.name])
            self._encoded[task.name] = rows, encoded
        return encoded
