"""Sequence classifiers on pretrained encoders."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import transformers
from datasets import Dataset
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from coto.device import Compute
from coto.models.base import HeadInput, Scores, TaskModel, TrainingSet, load_pretrained
from coto.models.batches import token_batches
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
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # a fresh head is what we ask for
    torch.manual_seed(seed)
    try:
        model, tokenizer, missing = load_pretrained(
            AutoModelForSequenceClassification, backbone, device, dropout, num_labels=num_labels
        )
    finally:
        transformers.logging.set_verbosity(verbosity)
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


class TextClassifier(TaskModel):
    """An encoder with a classification head; ``loading.num_labels`` is the width of a fresh one."""

    peft_task = "SEQ_CLS"

    def _load(self, loading: Loading) -> None:
        width, rate = loading.num_labels or 2, self._train.backbone_dropout
        self.model, self._tokenizer, self.heads = load(
            loading.backbone, self._compute.device, num_labels=width, seed=self._seed, dropout=rate
        )
        self._head = self.heads[0]
        # The rows of a task that were encoded last: operators score the same ones many times.
        self._encoded: dict[str, tuple[pd.DataFrame, Encoded]] = {}

    def training_set(self, task: Task, rows: pd.DataFrame) -> TrainingSet:
        """Tokenised rows; longer ones are cut to the task's length."""
        inputs, labels, truncated = self._encode(task, rows)
        items = [
            {**row, "labels": label, "length": len(row["input_ids"])}
            for row, label in zip(inputs, labels, strict=True)
        ]
        collate = transformers.DataCollatorWithPadding(self._tokenizer)
        grouped = self._train.layout == "length"
        return TrainingSet(Dataset.from_list(items), collate, len(items), truncated, grouped)

    def score(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> list[Scores]:
        """Every metric of the task on these rows."""
        assert isinstance(task, TextTask)
        inputs, labels, truncated = self._encode(task, rows)
        room, truth = self._evaluation.batch_tokens, np.asarray(labels)
        logits = predict(model, inputs, self._tokenizer, self._compute, room)
        return [scored(task, rows, logits, truth, task.num_labels, truncated=truncated)]

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
