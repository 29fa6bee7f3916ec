"""Stage ``overhead``: what a training step costs under each strategy.

All strategies train their own copy of the model in one process, in turn, step by step on the same
batches, so that a drift of the machine's speed hits them alike. The steps are spread over the whole
schedule: their mean is the mean of a full training.
"""

import itertools
import logging
import time
from pathlib import Path
from typing import Any

import torch

from coto import device, record
from coto.device import Compute
from coto.method.loop import ProgressiveTraining
from coto.stages.job import Job, training_rows
from coto.training import add_adapter, strategy_of, total_steps
from coto.workbench.base import TrainingSet

log = logging.getLogger(__name__)

_WARM_UP = 2
# The timed steps fall into this many interleaved blocks, each over the whole schedule and in equal
# parts for all strategies: repeated measurements, from which the report takes its interval.
_BLOCKS = 8


def run(job: Job, out: Path) -> None:
    """Time optimizer steps of all strategies of an adapter kind.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.overhead`.
        out: the record; ``seconds_per_step`` is a mean over the schedule.
    """
    settings, task = job.settings, job.task
    compute = device.resolve(settings["device"], settings["precision"])
    train = settings["train"]
    batch_size = settings["overhead"]["batch_size"] or train["batch_size"]
    timed = settings["overhead"]["steps"]
    rows = training_rows(job, seed=0)
    total = total_steps(train, len(rows), settings["shots"])
    contestants = []
    for name, strategy in settings["strategies"].items():
        bench = job.bench(compute)
        bench.for_task(task, rows)
        model = add_adapter(bench, settings, seed=0).train()
        training = ProgressiveTraining(model, strategy_of(strategy), total, strategy["unit"])
        contestants.append(_Contestant(name, training, model, settings["learning_rates"][name]))
    batches = itertools.cycle(_batches(bench.training_set(task, rows), batch_size, compute))
    for index in range(-_WARM_UP, timed):
        batch = next(batches)
        step = max(0, int((index + 0.5) * total / timed))
        # Whoever goes first finds colder caches: take turns.
        for contestant in contestants if index % 2 else reversed(contestants):
            contestant.step(batch, step, compute, counted=index >= 0)
    blocks = min(_BLOCKS, timed)
    results = []
    for contestant in contestants:
        contestant.training.close()
        for block in range(blocks):
            seconds, active = contestant.means(block, blocks)
            results.append(
                {
                    **{key: settings[key] for key in ("suite", "task", "adapter")},
                    "trained_on": task.name,
                    "strategy": contestant.name,
                    "block": block,
                    "seconds_per_step": seconds,
                    "steps": len(range(block, timed, blocks)),
                    "batch_size": batch_size,
                    "threads": job.threads,
                    "device": compute.name,
                    "hardware": record.environment()["hardware"],
                    "active_share": active,
                }
            )
        log.info("%s: %.4f s/step", contestant.name, contestant.means(0, 1)[0])
    record.write(out, "overhead", settings, results, compute.describe(job.threads))


class _Contestant:
    """One strategy's model with its optimizer and stop watch."""

    def __init__(
        self, name: str, training: ProgressiveTraining, model: torch.nn.Module, lr: float
    ) -> None:
        self.name, self.training, self.model = name, training, model
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr)
        self._timed: list[tuple[float, float]] = []

    def means(self, block: int, blocks: int) -> tuple[float, float]:
        """Mean seconds and mean share of active adapters over one block's steps."""
        seconds, active = zip(*self._timed[block::blocks], strict=True)
        return sum(seconds) / len(seconds), sum(active) / len(active)

    def step(self, batch: dict[str, Any], step: int, compute: Compute, *, counted: bool) -> None:
        """One optimizer step at a point of the schedule."""
        self.training.go_to(step)
        _wait(compute)
        begun = time.perf_counter()
        with compute.autocast():
            loss = self.model(**batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        _wait(compute)
        elapsed = time.perf_counter() - begun
        if counted:
            gate = self.training.gate
            share = 1.0 if gate is None else float(gate.active.mean())
            self._timed.append((elapsed, share))


def _batches(data: TrainingSet, size: int, compute: Compute) -> list[dict[str, Any]]:
    """Whole batches in the order of the rows, already on the device."""
    count = len(data.dataset)
    return [
        {
            name: tensor.to(compute.device)
            for name, tensor in data.collate(
                [data.dataset[i] for i in range(start, min(start + size, count))]
            ).items()
            if name != "length"
        }
        for start in range(0, max(1, count - size + 1), size)
    ]


def _wait(compute: Compute) -> None:
    if compute.device.type == "cuda":
        torch.cuda.synchronize()
