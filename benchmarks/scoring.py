"""What scoring an item costs a language model: ``python -m benchmarks scoring``.

Ranking an item's candidate answers against one forward pass of its prompt with the right answer,
in batches of as many tokens: what no way of ranking can save, as the prompt has to be read once.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from pydantic import Field

from benchmarks.common import project
from benchmarks.common.harness import BENCHMARKS, Bench, Benchmark, Row, alternate
from coto.config.plan import Plan
from coto.measurements.base import Job
from coto.measurements.train import located
from coto.models.batches import token_batches
from coto.models.causal.loading import load
from coto.settings import Model, Positive
from coto.tasks.language import prompt, target
from coto.tasks.registry import TASKS


class Settings(Model):
    """What is scored, by the default configuration's way of scoring."""

    suite: str = "commonsense"
    task: str = "snippets"
    items: Positive = Field(48, description="Items of a round, the first ones of the test rows.")
    path: str | None = Field(None, description="Folder of another language model.")


def run(bench: Bench[Settings]) -> list[Row]:
    """One row: seconds per item of scoring, in shares of those of a forward pass."""
    settings = bench.settings
    plan = project.plan_with(bench.folder / "work", _changes(settings))
    rows = project.rows(plan, settings.suite, settings.task, "test").head(settings.items)
    trained = project.run(plan, settings.suite, settings.task)
    model = project.load(plan, trained, bench.compute, rows)
    task = TASKS[settings.task]

    def score() -> None:
        model.score(model.model, task, rows)

    ways = {"scoring": score, "forward pass": _forward(plan, rows, bench)}
    timings = alternate(ways, bench.rounds).per(dict.fromkeys(ways, len(rows)))
    return [timings.row(settings.suite, "scoring", "forward pass", items=len(rows))]


def _changes(settings: Settings) -> dict[str, object]:
    suite: dict[str, object] = {"rows": {"test": settings.items}}
    if settings.path is None:
        return {"suites": {settings.suite: suite}}
    suite["backbone"] = "other"
    other = {"family": "causal", "path": settings.path}
    return {"suites": {settings.suite: suite}, "backbones": {"other": other}}


def _forward(plan: Plan, rows: pd.DataFrame, bench: Bench[Settings]) -> Callable[[], None]:
    """Every item once through the model, which makes the logits of the last token alone."""
    settings, compute = bench.settings, bench.compute
    trained = project.run(plan, settings.suite, settings.task)
    loading = located(Job(trained, Path(plan.config.results), {}), trained.loading)
    causal = load(loading.backbone, compute.device, dtype=compute.dtype)
    model = causal.model.eval()
    prompts = list(map(prompt, rows["instruction"], rows["set"]))
    tokens, _ = causal.encode_pairs(prompts, list(map(target, rows["answer"], rows["set"])))
    room, pad = loading.evaluation.batch_tokens, causal.tokenizer.pad_token_id
    batches = []
    for batch in token_batches(sorted(tokens, key=len), len, room):
        width = len(batch[-1])
        ids = torch.tensor([one + [pad] * (width - len(one)) for one in batch])
        seen = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in batch])
        batches.append((ids.to(compute.device), seen.to(compute.device)))

    def forward() -> None:
        with torch.inference_mode(), compute.autocast():
            for ids, seen in batches:
                model(input_ids=ids, attention_mask=seen, logits_to_keep=1)

    return forward


BENCHMARKS.add(
    Benchmark(
        name="scoring",
        summary="ranking an item's answers against one forward pass of the item",
        settings=Settings,
        quick={"items": 12},
        run=run,
    )
)
