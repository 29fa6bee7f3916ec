"""Changed weights in a plain model give what PEFT gives; the measurements built on that."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel

from coto import device, record
from coto.adapters.delta import deltas
from coto.adapters.store import read_adapter
from coto.config import paths
from coto.errors import CotoError
from coto.measurements.evaluation import Evaluator, _first
from coto.measurements.select import trained
from coto.measurements.train import TRAIN
from coto.measurements.training import add_adapter
from coto.models import encoder
from coto.models.base import load_model
from coto.models.encoder import encode, predict
from coto.models.weights import base_weights, changed
from coto.tasks.registry import TASKS
from tests.measurements.conftest import cell_of, job_of, plan_of, run_job
from tests.measurements.random_runs import describe

CPU = device.resolve("cpu", "fp32")
KINDS = {"lora": {}, "dora": {}, "hira": {}, "rslora": {}}


ARM = {"adapter": "lora", "strategy": "coto"}


def saved(folder: Path, kind: str, seed: int = 0) -> Any:
    """An adapter with random factors, as training leaves it on disk."""
    rates = {kind: [1.0e-3] for kind in KINDS}
    plan = plan_of(suites={"glue": {"adapters": list(KINDS), "learning_rates": rates}})
    at = {"task": "movies", "adapter": kind, "strategy": "vanilla", "lr": "0.001", "seed": seed}
    settings = job_of(folder, plan, "train", **at).settings
    model = add_adapter(load_model(settings.loading, CPU, seed), settings, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "magnitude" not in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        elif parameter.requires_grad:
            parameter.data = parameter.data * 1.1
    model.save_pretrained(folder)
    describe(folder)
    return settings


@pytest.mark.parametrize("kind", list(KINDS))
def test_delta_weights_are_the_adapter(kind, root, tmp_path):
    settings = saved(tmp_path / "adapter", kind)
    base = encoder.load(settings.loading.backbone, CPU.device, num_labels=2, seed=1)
    frame = job_of(root, plan_of(), "prune", **ARM, seed=0).rows("glue", "movies", "test")
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
    job = job_of(root, plan_of(), "prune", **ARM, seed=0)
    base = encoder.load(job.settings.loading.backbone, CPU.device, num_labels=2, seed=1)
    frame = job.rows("glue", "movies", "test")
    rows = encode(frame, base.tokenizer, 16).inputs
    alone = predict(base.model, rows, base.tokenizer, CPU, 1)
    together = predict(base.model, rows, base.tokenizer, CPU, 4096)
    np.testing.assert_allclose(alone, together, atol=2e-5)


@pytest.fixture
def two_seeds(root: Path) -> Path:
    for seed in (0, 1):
        cell = cell_of(**ARM, task="movies", lr="0.004", seed=seed)
        saved(root / TRAIN.path(cell, "adapter"), "lora", seed)
    return root


def rows_of(path: Path) -> list[dict]:
    return record.read(path)["rows"]


def unpruned(path: Path) -> float:
    """The score with all adapters kept."""
    rows = (row for row in rows_of(path) if row["method"] == "structured")
    (value,) = (row["value"] for row in rows if row["keep"] == "all")
    return value


def test_ends_of_the_path_are_the_seeds_in_both_spaces(two_seeds):
    plan = plan_of(suites={"glue": {"interpolate": {"weights": [0.0, 0.5, 1.0]}}})
    out = run_job(two_seeds, plan, "interpolate", **ARM, seeds="0-1")
    value = {(r["operator"], r["weight"]): r["value"] for r in rows_of(out)}
    assert len(value) == 6
    for seed, weight in ((0, 0.0), (1, 1.0)):
        alone = run_job(two_seeds, plan, "prune", **ARM, seed=seed)
        assert value["fusion", weight] == value["ensemble", weight] == unpruned(alone)


def test_pruning_counts_what_it_keeps(two_seeds):
    out = run_job(two_seeds, plan_of(), "prune", **ARM, seed=0)
    rows = [row for row in rows_of(out) if row["method"] == "structured"]
    kept = {row["keep"]: row["adapters_kept"] for row in rows}
    assert kept == {
        "all": 18, "odd": 9, "even": 9, "low": 6, "middle": 6, "high": 6,
        "query": 6, "key": 6, "value": 6,
    }  # fmt: skip
    assert {row["adapters_total"] for row in rows_of(out)} == {18}
    assert {row["keep"]: row["sparsity"] for row in rows}["low"] == pytest.approx(2 / 3)


def test_unstructured_pruning_begins_at_the_model_and_repeats_what_it_draws(two_seeds):
    sparse = {"sparsities": [0.0, 0.5, 0.95], "repeats": 2}
    methods = ["magnitude-factors-global", "magnitude-delta-layer", "random-factors-global"]
    plan = plan_of(suites={"glue": {"prune": {"unstructured": {**sparse, "methods": methods}}}})
    out = run_job(two_seeds, plan, "prune", **ARM, seed=0)
    rows = [row for row in rows_of(out) if row["method"] != "structured"]
    assert {row["value"] for row in rows if not row["sparsity"]} == {unpruned(out)}
    count = {name: sum(row["method"] == name for row in rows) for name in methods}
    assert count == dict(zip(methods, (3, 3, 6), strict=True))


def test_merging_one_task_with_weight_one_is_that_task(two_seeds):
    operators = ["fusion", "ensemble", "lora-align"]
    plan = plan_of(suites={"glue": {"merge": {"operators": operators}}})
    out = run_job(two_seeds, plan, "merge", **ARM, seed=0)
    alone = run_job(two_seeds, plan, "prune", **ARM, seed=0)
    assert [row["value"] for row in rows_of(out)] == [unpruned(alone)] * 3


def test_a_sweep_scores_sets_of_modules_as_pruning_does(two_seeds):
    job = job_of(two_seeds, plan_of(), "prune", **ARM, seed=0)
    evaluator = Evaluator(job, limit=5)
    adapter = job.adapter(trained(job, "movies", 0))
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
    loading = job_of(root, plan_of(), "prune", **ARM, seed=0).settings.loading
    evaluation = loading.evaluation.model_copy(update={"max_lengths": {"stsb": 32}})
    loading = loading.model_copy(update={"num_labels": 1, "evaluation": evaluation})
    model = load_model(loading, CPU, 0)
    rows = pd.DataFrame({"text": list("abc"), "text_pair": list("abd"), "idx": range(3)})
    rows["label"] = [5.0, 4.5, 0.0]
    (scores,) = model.score(model.model, TASKS["stsb"], rows)
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
            cell = cell_of(**ARM, task="movies", lr=lr, seed=seed)
            record.write(tmp_path / TRAIN.path(cell), "train", {}, rows)
    out = run_job(tmp_path, plan, "select", **ARM, task="movies")
    assert {row["lr"] for row in rows_of(out) if row["selected"]} == {0.002}
    job = job_of(tmp_path, plan, "prune", **ARM, seed=1)
    chosen = cell_of(**ARM, task="movies", lr="0.002", seed=1)
    assert trained(job, "movies", 1) == TRAIN.path(chosen, "adapter")


def test_an_adapter_that_changed_since_its_training_is_refused(two_seeds):
    cell = cell_of(**ARM, task="movies", lr="0.004", seed=0)
    weights = two_seeds / TRAIN.path(cell, "adapter") / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # one bit
    weights.write_bytes(content)
    with pytest.raises(CotoError, match="has changed since it was trained"):
        run_job(two_seeds, plan_of(), "prune", **ARM, seed=0)


def test_a_record_says_what_it_was_computed_from(two_seeds):
    out = run_job(two_seeds, plan_of(), "prune", **ARM, seed=0)
    folder = TRAIN.path(cell_of(**ARM, task="movies", lr="0.004", seed=0), "adapter")
    used = {folder, paths.data("glue", "movies", "test")}
    assert record.read(out)["inputs"] == {one: record.digest(two_seeds / one) for one in used}
