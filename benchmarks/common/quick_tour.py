"""Models and rows as the documentation of transformers and PEFT loads and prepares them.

Followed are transformers' pages on text classification, image classification and causal language
modelling, and PEFT's quick tour; what they leave to the user is as in this project.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import transforms
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
)

from benchmarks.common import project
from coto.config.plan import Plan
from coto.device import Compute
from coto.measurements.base import Job
from coto.measurements.train import Settings as Run
from coto.measurements.train import located
from coto.models.base import locate
from coto.models.images.vit import load as load_vit
from coto.tasks.language import prompt, target


class QuickTour(NamedTuple):
    """A model without adapters, its rows for the Trainer, and what PEFT is told besides."""

    model: Any
    dataset: Any
    collate: Callable[[list[Any]], dict[str, Any]]
    peft_task: str | None
    heads: tuple[str, ...] = ()


def model_and_data(plan: Plan, settings: Run, rows: pd.DataFrame, compute: Compute) -> QuickTour:
    """What the documentation makes of a run's backbone and rows."""
    project.backbone(plan, settings.suite)
    loading = located(Job(settings, Path(plan.config.results), {}), settings.loading)
    family = loading.backbone.family
    torch.manual_seed(settings.seed)
    if family == "vit":
        return _images(loading.backbone, rows, compute)
    where, source = locate(loading.backbone)
    make = _texts if family == "encoder" else _language
    found = make(where, source, rows)
    found.model.to(compute.device)
    return found


def _texts(where: str, source: dict[str, Any], rows: pd.DataFrame) -> QuickTour:
    tokenizer = AutoTokenizer.from_pretrained(where, **source)
    count = int(rows["label"].max()) + 1
    model = AutoModelForSequenceClassification.from_pretrained(where, num_labels=count, **source)
    columns = [name for name in ("text", "text_pair", "label") if name in rows]
    data = datasets.Dataset.from_pandas(rows[columns], preserve_index=False)
    texts = [name for name in columns if name != "label"]
    data = data.map(lambda row: tokenizer(*(row[t] for t in texts), truncation=True), batched=True)
    return QuickTour(model, data, DataCollatorWithPadding(tokenizer), "SEQ_CLS")


def _language(where: str, source: dict[str, Any], rows: pd.DataFrame) -> QuickTour:
    tokenizer = AutoTokenizer.from_pretrained(where, **source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(where, **source)
    prompts = map(prompt, rows["instruction"], rows["set"])
    targets = map(target, rows["answer"], rows["set"])
    texts = [asked + answer for asked, answer in zip(prompts, targets, strict=True)]
    data = datasets.Dataset.from_dict({"text": texts})
    limit = model.config.max_position_embeddings
    data = data.map(
        lambda row: tokenizer(row["text"], truncation=True, max_length=limit),
        batched=True,
        remove_columns=["text"],
    )
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return QuickTour(model, data, collate, "CAUSAL_LM")


def _images(backbone: Any, rows: pd.DataFrame, compute: Compute) -> QuickTour:
    classes = int(rows["label"].max()) + 1
    # No class of transformers reads this backbone; it has no dropout, as ViTs there have none.
    model, pixels = load_vit(backbone, compute.device, classes=classes)
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(pixels.size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(pixels.mean, pixels.std),
        ]
    )
    mode = "L" if pixels.channels == 1 else "RGB"
    pictures = [Image.open(io.BytesIO(content)).convert(mode) for content in rows["image"]]
    data = _Views(pictures, rows["label"].tolist(), view)
    return QuickTour(model.to(compute.device), data, _stack, None, ("head",))


class _Views(Dataset[dict[str, Any]]):
    """Images that are transformed when they are asked for, one by one."""

    def __init__(self, pictures: list[Any], labels: list[int], view: Callable[[Any], Any]) -> None:
        self._pictures, self._labels, self._view = pictures, labels, view

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": self._view(self._pictures[index]), "labels": self._labels[index]}


def _stack(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {
        "pixel_values": torch.stack([item["pixel_values"] for item in items]),
        "labels": torch.tensor([item["labels"] for item in items]),
    }
