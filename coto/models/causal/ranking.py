"""Candidate answers ranked as lm-eval ranks them, with all that weights do not change made once.

Documents, requests and metrics are those of lm-eval's task ``coto_ranking``. Its own loop makes and
tokenises the requests anew for every change of weights, and hashes every item for its logs: of
short questions to a small model that takes longer than the answers.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from lm_eval.tasks import TaskManager
from torch import nn

from coto.models.causal.likelihoods import Likelihoods
from coto.models.causal.loading import Causal

TASK = "coto_ranking"


class Ranking:
    """The candidate answers of an evaluation set, of which every item has some.

    `rows` are prepared rows of the set `name`; `folder` has the task's file. ``cut`` has the
    prompts that are too long for the model; ``single`` says whether all candidates are single
    tokens.
    """

    def __init__(
        self,
        causal: Causal,
        rows: pd.DataFrame,
        name: str,
        folder: Path,
        batch_tokens: int,
        kv_cache: bool,
    ) -> None:
        data = {"rows": rows, "name": name}
        manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=data)
        self._task = manager.load([TASK])["tasks"][TASK]
        self._task.build_all_requests()
        # Of an item after the other, and its candidates in order.
        requests = sorted(self._task.instances, key=lambda one: (one.doc_id, one.idx))
        self._docs = dict(self._task.doc_iterator())
        self._items = [request.doc_id for request in requests]
        prompts, answers = zip(*(request.args for request in requests), strict=True)
        whole, asked = causal.encode_pairs(list(prompts), list(answers))
        pairs = [(ids[:end], ids[end:]) for ids, end in zip(whole, asked, strict=True)]
        self.single = all(len(answer) == 1 for _, answer in pairs)
        self._likelihoods = Likelihoods(causal, pairs, batch_tokens, kv_cache)
        self.cut = {prompts[number] for number in self._likelihoods.cut}
        candidates = {tuple(doc["candidates"]) for doc in self._docs.values()}
        self._alike = len(candidates) == 1

    def score(self, model: nn.Module) -> tuple[dict[str, float], list[list[float]]]:
        """Metrics, as records call them, and every item's log-likelihoods, in nats.

        Answers of several tokens are ranked by the mean per character as well, since sums prefer
        short ones. Where all items have the same candidates, what the model says whatever it is
        asked can be told apart from what it knows: see :func:`calibrated`.
        """
        results = self._likelihoods.compute(model)
        by_item: dict[int, list[tuple[float, bool]]] = defaultdict(list)
        for item, result in zip(self._items, results, strict=True):
            by_item[item].append(result)
        found: dict[str, list[Any]] = defaultdict(list)
        for item, doc in self._docs.items():
            for metric, value in self._task.process_results(doc, by_item[item]).items():
                found[metric].append(value)
        means = self._task.aggregation()
        metrics = {"accuracy": float(means["acc"](found["acc"]))}
        if not self.single:
            metrics["accuracy_norm"] = float(means["acc_norm"](found["acc_norm"]))
        values = [[value for value, _ in by_item[item]] for item in self._docs]
        if self._alike:
            gold = [doc["gold"] for doc in self._docs.values()]
            metrics["accuracy_calibrated"] = calibrated(values, gold)
        return metrics, values


def calibrated(values: Sequence[Sequence[float]], gold: Sequence[int]) -> float:
    """Accuracy of (items, candidates) log-likelihoods, each candidate's centred over the items.

    A constant preference for one answer, whatever is asked, has no part in it.
    """
    table = np.asarray(values, dtype=np.float64)
    best = (table - table.mean(axis=0)).argmax(axis=1)
    return fmean(float(one == right) for one, right in zip(best, gold, strict=True))
