"""Adapters with random factors where training would have left them."""

import shutil
from pathlib import Path

import torch

from coto import device
from coto.config import paths
from coto.config.plan import Plan
from coto.training import add_adapter
from tests.stages.conftest import job_of

CPU = device.resolve("cpu", "fp32")


def leave_run(
    root: Path, plan: Plan, task: str, adapter: str, strategy: str, seed: int, size: float = 0.1
) -> Path:
    """Save a run's adapter in a results folder; returns its folder."""
    lr = plan.grid("glue", adapter, strategy)[0]
    job = job_of(root, plan.train("glue", task, adapter, strategy, lr, str(seed)))
    model = add_adapter(job.bench(CPU, seed), job.settings, seed)
    key = sum(map(ord, f"{task}{adapter}{strategy}"))
    generator = torch.Generator().manual_seed(1000 * key + seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "magnitude" in name:
            parameter.data = parameter.data * 1.1
        elif parameter.requires_grad:
            parameter.data = size * torch.randn(parameter.shape, generator=generator)
    folder = root / paths.adapter_weights(paths.run("glue", task, adapter, strategy, lr, seed))
    model.save_pretrained(folder)
    return folder


def copy_rows(root: Path, source: str, *tasks: str) -> None:
    """Give tasks the rows of another one."""
    for task in tasks:
        for split in ("train", "validation", "test"):
            target = root / paths.data("glue", task, split)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / paths.data("glue", source, split), target)
