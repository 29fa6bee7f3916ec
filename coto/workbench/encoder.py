"""Text classifiers: a pretrained encoder with a fresh head per task."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from torch import nn
from transformers import DataCollatorWithPadding

from coto.backbones import encoder
from coto.device import Compute
from coto.evaluate.classify import predict
from coto.evaluate.losses import cross_entropy, squared_error
from coto.evaluate.scoring import answers, is_collapsed, score
from coto.tasks.encode import Encoded, encode
from coto.tasks.task import Task
from coto.tasks.text import TextTask
from coto.workbench.base import Scores, TrainingSet, Workbench


class EncoderBench(Workbench):
    """An encoder on the bench.

    Args:
        settings: a job's settings. Their ``entry`` says how wide the fresh head is; jobs without
            one bring a trained head for every task.
        compute: device and precision.
        seed: of the head's initialisation, so that both arms of a pair start from the same head.
    """

    peft_task = "SEQ_CLS"

    def __init__(self, settings: Mapping[str, Any], compute: Compute, seed: int) -> None:
        loaded = encoder.load(
            settings["backbone"],
            compute.device,
            num_labels=settings["entry"]["num_labels"] if "entry" in settings else 2,
            seed=seed,
            dropout=settings["train"]["backbone_dropout"] if "train" in settings else 0.0,
        )
        self.model: nn.Module = loaded.model
        self.heads = loaded.heads
        self._tokenizer = loaded.tokenizer
        self._compute = compute
        self._evaluation = settings["evaluation"]
        # The rows of a task that were encoded last: operators score the same ones many times.
        self._encoded: dict[str, tuple[pd.DataFrame, Encoded]] = {}
        self._grouped = settings.get("train", {}).get("layout", "length") == "length"

    def training_set(self, task: Task, rows: pd.DataFrame) -> TrainingSet:
        """Tokenised rows; longer ones are cut to the task's length."""
        encoded = self._encode(task, rows)
        dataset = Dataset.from_list(
            [
                {**inputs, "labels": label, "length": len(inputs["input_ids"])}
                for inputs, label in zip(encoded.inputs, encoded.labels, strict=True)
            ]
        )
        return TrainingSet(
            dataset,
            DataCollatorWithPadding(self._tokenizer),
            rows=len(encoded),
            truncated=encoded.truncated,
            grouped=self._grouped,
        )

    def score(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> list[Scores]:
        """Every metric of the task on these rows."""
        assert isinstance(task, TextTask)
        encoded = self._encode(task, rows)
        logits = predict(
            model,
            encoded.inputs,
            self._tokenizer,
            self._compute,
            self._evaluation["batch_tokens"],
        )
        given, truth = answers(task, logits), np.asarray(encoded.labels)
        loss = squared_error if task.is_regression else cross_entropy
        items = pd.DataFrame({"idx": rows["idx"].to_numpy(), "answer": truth, "prediction": given})
        return [
            Scores(
                task.name,
                score(task, logits, encoded.labels),
                task.headline,
                items.assign(correct=given == truth),
                collapsed=not task.is_regression and is_collapsed(logits),
                truncated=encoded.truncated,
                loss=loss(logits, truth),
                outputs=logits,
                targets=truth,
            )
        ]

    def _encode(self, task: Task, rows: pd.DataFrame) -> Encoded:
        known = self._encoded.get(task.name)
        if known is None or known[0] is not rows:
            encoded = encode(rows, self._tokenizer, self._evaluation["max_lengths"][task.name])
            known = self._encoded[task.name] = rows, encoded
        return known[1]
