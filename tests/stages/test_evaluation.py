"""Changed weights in a plain model give what PEFT gives; the stages built on that."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from coto import device, record
from coto.adapters.store import read_adapter
from coto.backbones import encoder
from coto.config import paths
from coto.evaluate.classify import predict
from coto.operators.adapter import deltas
from coto.stages import interpolate, merge, prune, select
from coto.tasks.encode import encode
from coto.training import add_adapter
from coto.workbench.changed import base_weights, changed
from tests.stages.conftest import AT, job_of, plan_of

CPU = device.resolve("cpu", "fp32")
KINDS = {"lora": {}, "dora": {}, "hira": {}, "rslora": {}}


def saved(folder: Path, kind: str, seed: int = 0) -> Mapping[str, Any]:
    """An adapter with random factors, as training leaves it on disk."""
    rates = {kind: [1.0e-3] for kind in KINDS}
    plan = plan_of(suites={"glue": {"adapters": list(KINDS), "learning_rates": rates}})
    job = job_of(folder, plan.train(*AT, kind, "vanilla", "0.001", str(seed)))
    model = add_adapter(job.bench(CPU, seed), job.settings, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "magnitude" not in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        elif parameter.requires_grad:
            parameter.data = parameter.data * 1.1
    model.save_pretrained(folder)
    return job.settings


@pytest.mark.parametrize("kind", list(KINDS))
def test_delta_weights_are_the_adapter(kind, root, tmp_path):
    settings = saved(tmp_path / "adapter", kind)
    base = encoder.load(settings["backbone"], CPU.device, num_labels=2, seed=1)
    frame = job_of(root, plan_of().prune("glue", "lora", "coto", "0")).rows("movies", "test")
    rows = encode(frame, base.tokenizer, 16).inputs
    adapter = read_adapter(tmp_path / "adapter")
    assert len(adapter.modules) == 18
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    changes = deltas(adapter, base_weights(base.model, list(adapter.modules)))
    with changed(base.model, changes, adapter.heads) as model:
        ours = predict(model, rows, base.tokenizer, CPU, 256)
    assert all(torch.equal(p, before[name]) for name, p in base.model.named_parameters())
    plain = PeftModel.from_pretrained(base.model, tmp_path / "adapter")
    theirs = predict(plain, rows, base.tokenizer, CPU, 256)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    with plain.disable_adapter():
        unadapted = predict(plain, rows, base.tokenizer, CPU, 256)
    assert np.abs(unadapted - theirs).max() > 1e-2


def test_batches_do_not_change_predictions(root):
    settings = json.loads(plan_of().prune("glue", "lora", "coto", "0"))
    base = encoder.load(settings["backbone"], CPU.device, num_labels=2, seed=1)
    frame = job_of(root, plan_of().prune("glue", "lora", "coto", "0")).rows("movies", "test")
    rows = encode(frame, base.tokenizer, 16).inputs
    alone = predict(base.model, rows, base.tokenizer, CPU, 1)
    together = predict(base.model, rows, base.tokenizer, CPU, 4096)
    np.testing.assert_allclose(alone, together, atol=2e-5)


@pytest.fixture
def two_seeds(root: Path) -> Path:
    for seed in (0, 1):
        run = paths.run(*AT, "lora", "coto", "0.004", seed)
        saved(root / paths.adapter_weights(run), "lora", seed)
    return root


def rows_of(path: Path) -> list[dict]:
    return record.read(path)["rows"]


def test_ends_of_the_path_are_the_seeds_in_both_spaces(two_seeds):
    out = two_seeds / "path.json"
    plan = plan_of(suites={"glue": {"interpolate": {"weights": [0.0, 0.5, 1.0]}}})
    interpolate.run(job_of(two_seeds, plan.interpolate("glue", "lora", "coto", "0-1")), out)
    value = {(r["space"], r["weight"]): r["value"] for r in rows_of(out)}
    assert len(value) == 6
    for seed, weight in ((0, 0.0), (1, 1.0)):
        alone = two_seeds / f"seed{seed}.json"
        prune.run(job_of(two_seeds, plan.prune("glue", "lora", "coto", str(seed))), alone)
        (all_kept,) = (r["value"] for r in rows_of(alone) if r["keep"] == "all")
        assert value["fusion", weight] == value["ensemble", weight] == all_kept


def test_pruning_counts_what_it_keeps(two_seeds):
    out = two_seeds / "prune.json"
    prune.run(job_of(two_seeds, plan_of().prune("glue", "lora", "coto", "0")), out)
    kept = {row["keep"]: row["adapters_kept"] for row in rows_of(out)}
    assert kept == {
        "all": 18, "odd": 9, "even": 9, "low": 6, "middle": 6, "high": 6,
        "query": 6, "key": 6, "value": 6,
    }  # fmt: skip
    assert {row["adapters_total"] for row in rows_of(out)} == {18}


def test_merging_one_task_with_weight_one_is_that_task(two_seeds):
    plan = plan_of()
    out, alone = two_seeds / "merge.json", two_seeds / "prune.json"
    merge.run(job_of(two_seeds, plan.merge("glue", "lora", "coto", "0")), out)
    prune.run(job_of(two_seeds, plan.prune("glue", "lora", "coto", "0")), alone)
    (expected,) = (row["value"] for row in rows_of(alone) if row["keep"] == "all")
    assert [row["value"] for row in rows_of(out)] == [expected, expected]


def test_selection_takes_the_best_mean_and_the_smaller_of_equals(tmp_path):
    rates = {"lora-coto": [1.0e-3, 2.0e-3, 4.0e-3]}
    plan = plan_of(suites={"glue": {"adapters": ["lora"], "learning_rates": rates}})
    validation = {"0.001": [0.5, 0.7], "0.002": [0.8, 0.6], "0.004": [0.9, 0.5]}
    for lr, values in validation.items():
        for seed, value in enumerate(values):
            rows = [
                {"suite": "glue", "trained_on": "movies", "task": "movies",
                 "adapter": "lora", "strategy": "coto",
                 "seed": seed, "split": split, "metric": "accuracy", "headline": True,
                 # The test part says the opposite and must not be looked at.
                 "value": value if split == "validation" else 1 - value}
                for split in ("validation", "test")
            ]  # fmt: skip
            run = paths.run(*AT, "lora", "coto", lr, seed)
            record.write(tmp_path / paths.train_record(run), "train", {}, rows)
    out = tmp_path / paths.select_record(*AT, "lora", "coto")
    select.run(job_of(tmp_path, plan.select(*AT, "lora", "coto")), out)
    assert {row["lr"] for row in rows_of(out) if row["selected"]} == {0.002}
    job = job_of(tmp_path, plan.prune("glue", "lora", "coto", "1"))
    assert job.adapter("movies", 1) == tmp_path / paths.adapter_weights(
        paths.run(*AT, "lora", "coto", "0.002", 1)
    )
