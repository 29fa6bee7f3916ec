"""What a frozen backbone knows of the offline image tasks: ``python -m tools.probe``.

Logistic regression on the backbone's pooled features against the same regression on the pixels that
the backbone sees, on as many shots, with its strength of regularisation chosen on the validation
part. Prints a table in Markdown, which the backbone's model card quotes.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from coto.models.images import vit
from coto.models.images.pictures import Pictures
from coto.models.probe import STRENGTHS, fitted
from coto.models.settings import Backbone
from coto.tasks.images import ImageTask
from coto.tasks.load import load_task
from coto.tasks.registry import TASKS
from coto.tasks.splits import draw

GLYPHS = Path(__file__).parents[1] / "coto/models/images/glyphs"


class Probe:
    """A frozen backbone out of a folder, and the images as it sees them."""

    def __init__(self, folder: Path) -> None:
        model, pixels = vit.load(Backbone(family="vit", path=str(folder)), torch.device("cpu"))
        self.model = model.eval()
        self.pictures = Pictures(pixels)

    def pixels(self, rows: pd.DataFrame) -> Tensor:
        """Normalised images, (rows, channels, side, side)."""
        images = [
            self.pictures.read(content, f"image {idx}", "fitted")
            for content, idx in zip(rows["image"], rows["idx"], strict=True)
        ]
        return self.pictures.pixels.normalise(torch.stack(images))

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Tensor:
        """Pooled features, (rows, width)."""
        network = self.model.vit
        parts = [
            network.forward_head(network.forward_features(part), pre_logits=True)
            for part in pixels.split(256)
        ]
        return torch.cat(parts)

    def accuracy(
        self, frames: Mapping[str, pd.DataFrame], count: int, seed: int
    ) -> tuple[float, float]:
        """Test accuracy of one draw of `count` shots: on features, and on raw pixels."""
        train = draw(frames["train"], count, seed)
        parts = {"train": train, "validation": frames["validation"], "test": frames["test"]}
        pixels = {split: self.pixels(rows) for split, rows in parts.items()}
        labels = {split: rows["label"].to_numpy() for split, rows in parts.items()}
        features = {split: self.features(images).numpy() for split, images in pixels.items()}
        raw = {split: images.flatten(1).numpy() for split, images in pixels.items()}
        return regression(features, labels), regression(raw, labels)


def regression(inputs: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> float:
    """Test accuracy of the logistic regression that does best on the validation part."""
    found = []
    for strength in STRENGTHS:
        model = fitted(inputs["train"], labels["train"], strength)
        found.append((model.score(inputs["validation"], labels["validation"]), -strength, model))
    *_, best = max(found, key=lambda entry: entry[:2])
    return float(best.score(inputs["test"], labels["test"]))


def offline_tasks() -> list[ImageTask]:
    """The image tasks that need no network."""
    tasks = (task for task in TASKS.values() if isinstance(task, ImageTask))
    return [task for task in tasks if task.source == "made"]


def table(probe: Probe, tasks: list[ImageTask], count: int, seeds: int) -> str:
    """One line per task: test images and mean test accuracies in per cent over seeds."""
    lines = [
        "| task | classes | test images | raw pixels | frozen backbone |",
        "|---|---|---|---|---|",
    ]
    for task in tasks:
        frames = load_task(task)
        drawn = [probe.accuracy(frames, count, seed) for seed in range(seeds)]
        backbone, raw = (100 * float(np.mean(column)) for column in zip(*drawn, strict=True))
        classes = len(frames["train"].attrs["class_names"])
        lines.append(
            f"| {task.name} | {classes} | {len(frames['test'])} | {raw:.1f} | {backbone:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.probe", description=__doc__)
    parser.add_argument("--backbone", type=Path, default=GLYPHS, help="folder; default: our own")
    parser.add_argument("--shots", type=int, default=16, help="per class; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="draws of shots; default: %(default)s")
    arguments = parser.parse_args()
    probe = Probe(arguments.backbone)
    print(table(probe, offline_tasks(), arguments.shots, arguments.seeds))


if __name__ == "__main__":
    main()
