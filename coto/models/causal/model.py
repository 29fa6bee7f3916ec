"""Causal language models: trained on prompts with answers, scored through lm-eval."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from torch import Tensor, nn

from coto import record
from coto.errors import CotoError
from coto.models.base import Scores, TaskModel, TrainingSet
from coto.models.batches import token_batches
from coto.models.causal.answers import Questions, questions
from coto.models.causal.choice import IGNORED, collate_choices, learn_choices, tokenise_choices
from coto.models.causal.harness import check_standard, score_standard
from coto.models.causal.loading import Causal, load
from coto.models.fitting import left_out
from coto.models.settings import Loading
from coto.tasks.language import prompt, target
from coto.tasks.task import Task

log = logging.getLogger(__name__)

_VERSION = 1  # of what the cache holds


class LanguageModel(TaskModel):
    """A causal language model; the cache holds tokenised rows, the seed is not used.

    If lm-eval's own tasks are asked for, their data must be there before any training.
    """

    peft_task = "CAUSAL_LM"

    def _load(self, loading: Loading) -> None:
        self._mirror, self._kv_cache = loading.mirror, True
        check_standard(self._evaluation.standard, self._mirror)
        device, dropout = self._compute.device, self._train.backbone_dropout
        self._causal = load(loading.backbone, device, dropout=dropout, dtype=self._compute.dtype)
        self.model = self._causal.model
        # Of the rows that were scored last: what is asked of them, as tokens.
        self._asked: dict[str, tuple[pd.DataFrame, bool, list[Questions]]] = {}
        if self._train.loss_on == "candidates":
            learn_choices(self._causal.model)

    def set_task(
        self, task: Task, rows: pd.DataFrame, prototypes: pd.DataFrame | None = None
    ) -> None:
        """Find out, before any block is replayed, how the model takes continuations."""
        _ = self._causal.forks

    def training_set(self, task: Task, rows: pd.DataFrame) -> TrainingSet:
        """Prompts with answers as tokens; what is cut or left out is counted.

        Raises CotoError if the limit leaves no answer, candidates are not single tokens where the
        loss is on them, or the model cannot keep packed items apart.
        """
        causal, layout, loss_on = self._causal, self._train.layout, self._train.loss_on
        limit = self._evaluation.max_lengths[task.name]
        chosen = loss_on == "candidates"
        if chosen:
            tokens = tokenise_choices(causal, rows, limit)
        else:
            tokens = tokenise(causal, rows, limit, loss_on, self._cache)
        kept = [i for i, trained in enumerate(tokens["trained"]) if trained]
        if not kept:
            reason = f"none of {len(rows)} answers is within it"
            expected = "expected room for the prompt and its answer"
            raise CotoError(f"max_length = {limit}: {reason}; {expected}")
        data = tokens.select(kept).select_columns(["input_ids", "labels", "length"])
        truncated, dropped = sum(tokens["truncated"]), len(tokens) - len(kept)
        if layout == "packed":
            self._check_packing()
            data = pack(data, limit)
        if truncated:
            log.warning(
                "%d of %d training rows are longer than %d tokens and were cut; %d of them lost "
                "their whole answer and are left out",
                *(truncated, len(rows), limit, dropped),
            )
        # Without a launcher the Trainer splits batches over several GPUs, row indices with them.
        split = self._compute.device.type == "cuda" and torch.cuda.device_count() > 1
        narrow = loss_on == "answer" and causal.narrows and not split
        summary = {
            "loss_on": loss_on,
            "layout": layout,
            "items": len(kept),
            "dropped": dropped,
            "tokens_mean": round(sum(data["length"]) / len(data), 1),
        }
        pad = causal.tokenizer.pad_token_id
        whole = partial(collate, pad=pad, narrow=narrow)
        return TrainingSet(
            data,
            partial(collate_choices, pad=pad) if chosen else whole,
            len(data),
            truncated,
            left_out(task.name, rows),
            grouped=layout == "length",
            summary=summary,
        )

    def score(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> list[Scores]:
        """Scores on every evaluation set among the rows, then on lm-eval's own tasks, if asked for.

        Sets of LLM-Adapters are among lm-eval's tasks: their scores stand beside each other.
        """
        causal, settings = self._causal, self._evaluation
        with self._compute.autocast():
            scores = [one.score(model) for one in self._questions(task, rows)]
            if tasks := settings.standard:
                scores += score_standard(model, causal, tasks, settings.batch_tokens, self._mirror)
        found: dict[str, Scores] = {}
        for new in scores:
            if own := found.get(new.task):
                items = pd.concat([own.items, new.items], ignore_index=True)
                found[own.task] = replace(own, metrics={**own.metrics, **new.metrics}, items=items)
            else:
                found[new.task] = new
        return list(found.values())

    def features(self, task: Task, rows: pd.DataFrame) -> np.ndarray:
        """The last hidden state where the answer begins, (rows, dimensions), fp32.

        It is what the first token of the answer is predicted from.
        """
        prompts = [text.rstrip() for text in map(prompt, rows["instruction"], rows["set"])]
        ids = [tokens[-self._causal.max_length :] for tokens in self._causal.encode(prompts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found: dict[int, np.ndarray] = {}
        body, device = self._causal.model.base_model, self._compute.device
        pad = self._causal.tokenizer.pad_token_id
        body.eval()
        room = self._evaluation.batch_tokens
        with torch.inference_mode(), self._compute.autocast():
            for batch in token_batches(order, lambda i: len(ids[i]), room):
                lengths = [len(ids[i]) for i in batch]
                width = max(lengths)
                # Causal attention: padding on the right is never looked at.
                tokens = _padded([ids[i] for i in batch], width, pad)
                mask = _padded([[1] * length for length in lengths], width, 0)
                states = body(input_ids=tokens.to(device), attention_mask=mask.to(device))[0]
                last = states[torch.arange(len(batch)), torch.tensor(lengths) - 1]
                found.update(zip(batch, last.float().cpu().numpy(), strict=True))
        return np.stack([found[i] for i in range(len(ids))])

    def _questions(self, task: Task, rows: pd.DataFrame) -> list[Questions]:
        known, cached, asked = self._asked.get(task.name, (None, None, None))
        if asked is None or known is not rows or cached is not self._kv_cache:
            asked = questions(self._causal, rows, self._evaluation, self._kv_cache)
            self._asked[task.name] = rows, self._kv_cache, asked
        return asked

    @contextmanager
    def replayable(self) -> Iterator[None]:
        """Rank candidate answers only, without a KV cache."""
        usual = self._evaluation
        self._evaluation = usual.model_copy(update={"protocols": ("ranking",), "standard": ()})
        self._kv_cache = False
        try:
            yield
        finally:
            self._evaluation, self._kv_cache = usual, True

    def replays_all(self, rows: pd.DataFrame) -> bool:
        """Ranking alone is replayed: not generation, nor lm-eval's own tasks."""
        ranked = self._evaluation.protocols == ("ranking",) and not self._evaluation.standard
        return ranked and bool(rows["choices"].map(lambda choices: choices is not None).all())

    def _check_packing(self) -> None:
        """Refuse a model that lets the items of one window see each other."""
        device, training = next(self.model.parameters()).device, self.model.training
        ids = torch.arange(10, 18, device=device)[None]
        positions = torch.arange(4, device=device).repeat(2)[None]
        self.model.eval()
        with torch.no_grad():
            mixed = self.model(input_ids=ids).logits[0, 4:].float()
            packed = self.model(input_ids=ids, position_ids=positions).logits[0, 4:].float()
            alone = self.model(input_ids=ids[:, 4:]).logits[0].float()
        self.model.train(training)
        if (packed - alone).norm() > 0.1 * (mixed - alone).norm():
            reason = "this backbone lets the items of a window see each other"
            raise CotoError(f"layout = 'packed': {reason}, expected 'length' or 'shuffled'")


def tokenise(
    causal: Causal, rows: pd.DataFrame, max_length: int, loss_on: str, cache: Path | None
) -> Dataset:
    """Tokens of prompts with their answers, or what was made of the same ones before.

    EOS follows every answer that the limit leaves room for, and counts as its last token; a longer
    item is cut at its end, as LLM-Adapters does. Results in the folder `cache` are keyed by
    content: texts, tokenizer and recipe. Columns are ``input_ids``, ``labels`` (`loss_on` is
    ``answer`` or ``all``), ``length``, ``truncated``, and ``trained``, false where the cut left no
    token for the loss.
    """
    prompts = list(map(prompt, rows["instruction"], rows["set"]))
    targets = list(map(target, rows["answer"], rows["set"]))
    tokenizer = causal.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab())
    recipe = {"max_length": max_length, "loss_on": loss_on}
    head = [_VERSION, type(tokenizer).__name__, tokenizer.special_tokens_map, recipe]
    digest = hashlib.sha256()
    for part in (head, content, prompts, targets):
        digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    made = None if cache is None else cache / "tokens" / f"{digest.hexdigest()[:32]}.parquet"
    if made is not None and made.is_file():
        log.info("tokens of %d rows are in the cache", len(prompts))
        return Dataset(pq.read_table(made))
    items = []
    for whole, asked in zip(*causal.encode_pairs(prompts, targets), strict=True):
        ids = whole[:max_length]
        if len(ids) < max_length and ids[-1] != tokenizer.eos_token_id:
            ids = [*ids, tokenizer.eos_token_id]
        hidden = min(asked, len(ids)) if loss_on == "answer" else 0
        items.append(
            {
                "input_ids": ids,
                "labels": [IGNORED] * hidden + ids[hidden:],
                "length": len(ids),
                "truncated": len(whole) > max_length,
                "trained": len(ids) > max(hidden, 1),
            }
        )
    data = Dataset.from_list(items)
    if made is not None:
        with record.atomic(made) as temporary:
            pq.write_table(data.data.table, temporary, compression="zstd")
    return data


def pack(data: Dataset, max_length: int) -> Dataset:
    """Put several items into one window, in their order; ``position_ids`` begin anew at each.

    Attention between the items of a window is for the model to prevent, by their positions.
    """
    windows: list[dict[str, list[int]]] = []
    room = 0
    for item in data:
        if not windows or item["length"] > room:
            windows.append({"input_ids": [], "labels": [], "position_ids": []})
            room = max_length
        room -= item["length"]
        windows[-1]["input_ids"] += item["input_ids"]
        # No token predicts the first one of its own item, least of all another item's last.
        windows[-1]["labels"] += [IGNORED, *item["labels"][1:]]
        windows[-1]["position_ids"] += range(item["length"])
    return Dataset.from_list([{**w, "length": len(w["input_ids"])} for w in windows])


def collate(items: list[Mapping[str, list[int]]], *, pad: int, narrow: bool) -> dict[str, Any]:
    """A batch, padded on the right; padding is told by length, the token `pad` is never looked at.

    Packed items come without ``attention_mask``: positions tell them apart. With `narrow` the
    logits before the first token that the loss is on are left out: the vocabulary is large and
    answers are short, so that they would cost a fifth of a step.
    """
    lengths = [len(item["input_ids"]) for item in items]
    width = max(lengths)
    labels = _padded([item["labels"] for item in items], width, IGNORED)
    batch = {"input_ids": _padded([item["input_ids"] for item in items], width, pad)}
    if "position_ids" in items[0]:
        # Padding starts again at 0, as one more item that nothing attends to.
        pairs = zip(items, lengths, strict=True)
        rows = [[*item["position_ids"], *range(width - length)] for item, length in pairs]
        batch["position_ids"] = torch.tensor(rows)
    else:
        batch["attention_mask"] = _padded([[1] * length for length in lengths], width, 0)
    if narrow:
        # The logit at a token predicts the next one; windows of both end at the same place.
        first = max(int((labels != IGNORED).any(0).nonzero()[0]) - 1, 0)
        # As indices, not a number: they make a copy, and products of a mere view are slow.
        batch["logits_to_keep"] = torch.arange(first, width)
        labels = labels[:, first:]
    return {**batch, "labels": labels}


def _padded(rows: list[list[int]], width: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
