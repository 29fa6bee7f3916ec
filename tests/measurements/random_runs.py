"""Adapters with random factors where training would have left them."""

import shutil
from pathlib import Path

import torch

from coto import device, record
from coto.config import paths
from coto.config.plan import Plan
from coto.measurements.training import add_adapter
from coto.models.base import load_model
from tests.measurements.conftest import job_of

CPU = device.resolve("cpu", "fp32")


def leave_run(
    root: Path, plan: Plan, task: str, adapter: str, strategy: str, seed: int, size: float = 0.1
) -> Path:
    """Save a run's adapter in a results folder; returns its folder."""
    lr = plan.grid("glue", adapter, strategy)[0]
    at = {"task": task, "adapter": adapter, "strategy": strategy, "lr": lr, "seed": seed}
    job = job_of(root, plan, "train", **at)
    model = add_adapter(load_model(job.settings.loading, CPU, seed), job.settings, seed)
    key = sum(map(ord, f"{task}{adapter}{strategy}"))
    generator = torch.Generator().manual_seed(1000 * key + seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "magnitude" in name:
            parameter.data = parameter.data * 1.1
        elif parameter.requires_grad:
            parameter.data = size * torch.randn(parameter.shape, generator=generator)
    folder = job.outputs["adapter"]
    model.save_pretrained(folder)
    describe(folder)
    return folder


def describe(folder: Path) -> None:
    """Leave the record that training leaves beside an adapter and its snapshots."""
    parts = [folder, *folder.glob(f"{paths.SNAPSHOTS}/*")]
    files = {str(part.relative_to(folder)): record.digest(part) for part in parts}
    record.write(folder.parent / "train.json", "train", {}, [], files=files)


def copy_rows(root: Path, source: str, *tasks: str) -> None:
    """Give tasks the rows of another one."""
    for task in tasks:
        for split in ("train", "validation", "test"):
            target = root / paths.data("glue", task, split)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / paths.data("glue", source, split), target)
