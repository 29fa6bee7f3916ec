"""Causal language models: trained on prompts with answers, scored through lm-eval."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from coto.backbones import causal
from coto.device import Compute
from coto.errors import CotoError
from coto.evaluate.lm_score import Evaluation, score_rows
from coto.evaluate.lm_standard import check_standard, score_standard
from coto.tasks import prompts
from coto.tasks.task import Task
from coto.workbench.base import Scores, TrainingSet, Workbench
from coto.workbench.tokenised import Collator, Recipe, pack, tokenise

log = logging.getLogger(__name__)


class CausalBench(Workbench):
    """A language model on the bench.

    Args:
        settings: a job's settings. ``cache`` is the folder of tokenised rows, or None; ``mirror``
            that of data sets, for lm-eval's own tasks.
        compute: device and precision.
        seed: unused: nothing of the model is initialised afresh.

    Raises:
        CotoError: if the model cannot be loaded, or the data of a standard task are absent.
    """

    peft_task = "CAUSAL_LM"

    def __init__(self, settings: Mapping[str, Any], compute: Compute, seed: int = 0) -> None:
        train = settings.get("train") or {}
        evaluation = settings["evaluation"]
        self._mirror = settings.get("mirror")
        self._standard = tuple(evaluation.get("standard") or ())
        check_standard(self._standard, self._mirror)  # before any training
        self._causal = causal.load(
            settings["backbone"],
            compute.device,
            dropout=train.get("backbone_dropout", 0.0),
            dtype=compute.dtype,
        )
        self.model: nn.Module = self._causal.model
        self._compute = compute
        self._train = train
        self._evaluation = Evaluation.of(evaluation)
        self._max_lengths = evaluation["max_lengths"]
        cache = settings.get("cache")
        self._cache = None if cache is None else Path(cache) / "tokens"

    def training_set(self, task: Task, rows: pd.DataFrame) -> TrainingSet:
        """Prompts with answers as tokens; what is cut or left out is counted.

        Raises:
            CotoError: if the limit leaves no answer, or the model cannot keep packed items apart.
        """
        recipe = Recipe(self._max_lengths[task.name], self._train.get("loss_on", "answer"))
        layout = self._train.get("layout", "length")
        asked = list(map(prompts.prompt, rows["instruction"], rows["set"]))
        told = list(map(prompts.target, rows["answer"], rows["set"]))
        tokenised = tokenise(self._causal, asked, told, recipe, self._cache)
        if layout == "packed":
            self._check_packing()
            tokenised = pack(tokenised, recipe.max_length)
        if tokenised.truncated:
            log.warning(
                "%d of %d training rows are longer than %d tokens and were cut; %d of them lost "
                "their whole answer and are left out",
                tokenised.truncated,
                len(rows),
                recipe.max_length,
                tokenised.dropped,
            )
        lengths = tokenised.data["length"]
        return TrainingSet(
            tokenised.data,
            Collator(self._causal.tokenizer.pad_token_id, self._narrow(recipe)),
            rows=len(tokenised.data),
            truncated=tokenised.truncated,
            grouped=layout == "length",
            summary={
                "loss_on": recipe.loss_on,
                "layout": layout,
                "items": tokenised.items,
                "dropped": tokenised.dropped,
                "tokens_mean": round(sum(lengths) / len(lengths), 1),
            },
        )

    def score(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> list[Scores]:
        """Scores on every evaluation set among the rows, then on lm-eval's own tasks, if asked for.

        Raises:
            CotoError: if a log-likelihood is not finite.
        """
        with self._compute.autocast():
            scores = score_rows(model, self._causal, rows, self._evaluation)
            if self._standard:
                standard = score_standard(
                    model, self._causal, self._standard, self._evaluation, self._mirror
                )
                scores = _joined(scores, standard)
        return scores

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """Rank candidate answers only, without a KV cache."""
        usual = self._evaluation, self._standard
        self._evaluation = replace(self._evaluation, protocols=("ranking",), kv_cache=False)
        self._standard = ()
        try:
            yield
        finally:
            self._evaluation, self._standard = usual

    def sweeps_all(self, rows: pd.DataFrame) -> bool:
        """Ranking alone is swept: not generation, nor lm-eval's own tasks."""
        ranked = self._evaluation.protocols == ("ranking",) and not self._standard
        return ranked and bool(rows["choices"].map(lambda choices: choices is not None).all())

    def _narrow(self, recipe: Recipe) -> bool:
        """Whether only the answers' logits are computed in training."""
        # Without a launcher the Trainer splits batches over several GPUs, row indices with them.
        split = self._compute.device.type == "cuda" and torch.cuda.device_count() > 1
        return recipe.loss_on == "answer" and self._causal.narrows and not split

    def _check_packing(self) -> None:
        """Refuse a model that lets the items of one window see each other."""
        ids = torch.arange(8)[None] + 10
        at = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])
        training = self.model.training
        self.model.eval()
        device = next(self.model.parameters()).device
        with torch.no_grad():
            mixed = self.model(input_ids=ids.to(device)).logits[0, 4:].float()
            packed = self.model(input_ids=ids.to(device), position_ids=at.to(device)).logits[0, 4:]
            alone = self.model(input_ids=ids[:, 4:].to(device)).logits[0].float()
        self.model.train(training)
        if (packed.float() - alone).norm() > 0.1 * (mixed - alone).norm():
            raise CotoError(
                "layout = 'packed': this backbone lets the items of a window see each other, "
                "expected 'length' or 'shuffled'"
            )


def _joined(scores: list[Scores], standard: list[Scores]) -> list[Scores]:
    """Scores with lm-eval's own ones beside them: sets of LLM-Adapters are among its tasks."""
    found = {own.task: own for own in scores}
    for other in standard:
        own = found.get(other.task)
        found[other.task] = (
            other
            if own is None
            else replace(
                own,
                metrics={**own.metrics, **other.metrics},
                items=pd.concat([own.items, other.items], ignore_index=True),
            )
        )
    return list(found.values())
