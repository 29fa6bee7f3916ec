"""Changed weights in a plain model give what PEFT gives; the stages built on that."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
from coto.stages.evaluation import Evaluator, _first
from coto.tasks.encode import encode
from coto.tasks.registry import TASKS
from coto.training import add_adapter
from coto.workbench.changed import base_weights, changed
from coto.workbench.encoder import EncoderBench
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


def unpruned(path: Path) -> float:
    """The score with all adapters kept."""
    rows = (row for row in rows_of(path) if row["method"] == "structured")
    (value,) = (row["value"] for row in rows if row["keep"] == "all")
    return value


def test_ends_of_the_path_are_the_seeds_in_both_spaces(two_seeds):
    out = two_seeds / "path.json"
    plan = plan_of(suites={"glue": {"interpolate": {"weights": [0.0, 0.5, 1.0]}}})
    interpolate.run(job_of(two_seeds, plan.interpolate("glue", "lora", "coto", "0-1")), out)
    value = {(r["operator"], r["weight"]): r["value"] for r in rows_of(out)}
    assert len(value) == 6
    for seed, weight in ((0, 0.0), (1, 1.0)):
        alone = two_seeds / f"seed{seed}.json"
        prune.run(job_of(two_seeds, plan.prune("glue", "lora", "coto", str(seed))), alone)
        assert value["fusion", weight] == value["ensemble", weight] == unpruned(alone)


def test_pruning_counts_what_it_keeps(two_seeds):
    out = two_seeds / "prune.json"
    prune.run(job_of(two_seeds, plan_of().prune("glue", "lora", "coto", "0")), out)
    rows = [row for row in rows_of(out) if row["method"] == "structured"]
    kept = {row["keep"]: row["adapters_kept"] for row in rows}
    assert kept == {
        "all": 18, "odd": 9, "even": 9, "low": 6, "middle": 6, "high": 6,
        "query": 6, "key": 6, "value": 6,
    }  # fmt: skip
    assert {row["adapters_total"] for row in rows_of(out)} == {18}
    assert {row["keep"]: row["sparsity"] for row in rows}["low"] == pytest.approx(2 / 3)


def test_unstructured_pruning_begins_at_the_model_and_repeats_what_it_draws(two_seeds):
    out = two_seeds / "prune.json"
    sparse = {"sparsities": [0.0, 0.5, 0.95], "repeats": 2}
    methods = ["magnitude-factors-global", "magnitude-delta-layer", "random-factors-global"]
    plan = plan_of(suites={"glue": {"prune": {"unstructured": {**sparse, "methods": methods}}}})
    prune.run(job_of(two_seeds, plan.prune("glue", "lora", "coto", "0")), out)
    rows = [row for row in rows_of(out) if row["method"] != "structured"]
    assert {row["value"] for row in rows if not row["sparsity"]} == {unpruned(out)}
    count = {name: sum(row["method"] == name for row in rows) for name in methods}
    assert count == dict(zip(methods, (3, 3, 6), strict=True))


def test_merging_one_task_with_weight_one_is_that_task(two_seeds):
    operators = ["fusion", "ensemble", "lora-align"]
    plan = plan_of(suites={"glue": {"merge": {"operators": operators}}})
    out, alone = two_seeds / "merge.json", two_seeds / "prune.json"
    merge.run(job_of(two_seeds, plan.merge("glue", "lora", "coto", "0")), out)
    prune.run(job_of(two_seeds, plan.prune("glue", "lora", "coto", "0")), alone)
    assert [row["value"] for row in rows_of(out)] == [unpruned(alone)] * 3


def test_a_sweep_scores_sets_of_modules_as_pruning_does(two_seeds):
    job = job_of(two_seeds, plan_of().prune("glue", "lora", "coto", "0"))
    evaluator = Evaluator(job, limit=5)
    adapter = read_adapter(job.adapter("movies", 0))
    change = deltas(adapter, evaluator.weights(list(adapter.modules)))
    masks = [frozenset(m for m in change if end in m) for end in ("query", "", ".3.", "nothing")]
    losses = set()
    for mask, (found,) in zip(
        masks, evaluator.sweep("movies", change, adapter.heads, masks), strict=True
    ):
        on = {module: change[module] for module in mask}
        (expected,) = evaluator.score("movies", on, adapter.heads)
        assert np.array_equal(found.outputs, expected.outputs)
        assert found.outputs.shape == (5, 2)
        assert found.metrics == expected.metrics
        logits, labels = torch.tensor(found.outputs), torch.tensor(found.targets)
        loss = torch.nn.functional.cross_entropy(logits, labels).item()
        assert found.loss == pytest.approx(loss, rel=1e-5)
        losses.add(found.loss)
    assert len(losses) == len(masks)


def test_a_regressions_loss_is_its_squared_error(root):
    settings = job_of(root, plan_of().prune("glue", "lora", "coto", "0")).settings
    lengths = {"batch_tokens": 256, "max_lengths": {"stsb": 32}}
    entry = {"num_labels": 1}
    bench = EncoderBench({**settings, "entry": entry, "evaluation": lengths}, CPU, 0)
    rows = pd.DataFrame({"text": list("abc"), "text_pair": list("abd"), "idx": range(3)})
    rows["label"] = [5.0, 4.5, 0.0]
    (scores,) = bench.score(bench.model, TASKS["stsb"], rows)
    errors = scores.items["prediction"] - rows["label"]
    assert scores.loss == pytest.approx((errors**2).mean())
    assert scores.targets.tolist() == rows["label"].tolist()


def test_a_limit_keeps_the_first_rows_of_each_set():
    rows = pd.DataFrame({"set": list("aabab"), "idx": range(5)})
    rows.attrs["class_names"] = ["x", "y"]
    assert _first(rows, None) is rows
    found = _first(rows, 2)
    assert found["idx"].tolist() == [0, 1, 2, 4]
    assert found.index.tolist() == [0, 1, 2, 3]
    assert found.attrs == rows.attrs
    assert _first(rows.drop(columns="set"), 3)["idx"].tolist() == [0, 1, 2]
    assert _first(rows, 9)["idx"].tolist() == [*range(5)]


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
