"""Training: paired arms, exact resume, guards."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from coto import cli, device, record
from coto.adapters.store import check_adapter, read_adapter
from coto.config import paths
from coto.config.plan import Plan
from coto.errors import CotoError
from coto.measurements.base import Job
from coto.measurements.evaluation import Evaluator
from coto.measurements.train import TRAIN
from coto.measurements.training import adapters_off, add_adapter
from coto.method.checkpoint import last_complete_checkpoint
from coto.models.base import load_model
from coto.models.settings import Fast
from coto.settings import canonical
from coto.workspace import forget_finished
from tests.forks import Child
from tests.measurements.conftest import AT, job_of, plan_of, run_job

CPU = device.resolve("cpu", "fp32")
LR = {"lora": "0.004", "dora": "0.004", "hira": "0.01"}


def at(adapter: str, strategy: str, seed: int = 0) -> dict:
    place = {"task": "movies", "lr": LR[adapter], "seed": seed}
    return {**place, "adapter": adapter, "strategy": strategy}


def trained(root: Path, plan: Plan, adapter: str, strategy: str, seed: int = 0) -> dict:
    forget_finished(root)  # as the workflow does when it has accepted a run
    out = run_job(root, plan, "train", **at(adapter, strategy, seed))
    return load_file(out.parent / "adapter" / "adapter_model.safetensors")


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("adapter", list(LR))
def test_coto_that_is_always_on_is_vanilla_bit_for_bit(root, adapter):
    always = {"coto": {"p0": 1.0, "p1": 1.0}}
    plan = plan_of(strategies=always)
    assert same(trained(root, plan, adapter, "vanilla"), trained(root, plan, adapter, "coto"))


def test_coto_differs_from_vanilla_and_repeats_itself(root):
    plan = plan_of()
    first = trained(root, plan, "lora", "coto")
    assert not same(first, trained(root, plan, "lora", "vanilla"))
    assert same(first, trained(root, plan, "lora", "coto"))


def test_arms_of_a_pair_start_equal_and_seeds_differ():
    plan = plan_of()

    def start(strategy: str, seed: int) -> dict:
        settings = job_of(Path(), plan, "train", **at("lora", strategy, seed)).settings
        return add_adapter(load_model(settings.loading, CPU, seed), settings, seed).state_dict()

    assert same(start("vanilla", 0), start("coto", 0))
    assert not same(start("vanilla", 0), start("vanilla", 1))


def test_the_record_says_what_a_reader_must_know(root):
    out = run_job(root, plan_of(), "train", **at("lora", "coto"))
    record = json.loads(out.read_text())
    assert record["settings"]["strategy_settings"]["p0"] == 0.1
    assert record["training"]["steps"] == 4
    assert record["training"]["truncated"] == 0
    environment = record["environment"]
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["device"] == "CPU"
    assert environment["precision"] == "fp32"
    assert environment["peak_memory_mb"] > 100
    gradients = json.loads(out.with_name("gradients.json").read_text())["rows"]
    assert {row["layer"] for row in gradients} == set(range(6))
    assert sum(row["steps"] for row in gradients if row["layer"] == 0) == 4
    # Not every block trains at every step of CoTo; where one does, it has a gradient.
    assert any(row["steps_active"] < row["steps"] for row in gradients)
    assert any(row["norm"] > 0 for row in gradients)
    rows = record["rows"]
    assert {(row["split"], row["n"]) for row in rows} == {("validation", 8), ("test", 12)}
    assert all(row["headline"] for row in rows if row["metric"] == "accuracy")


def test_an_adapter_loads_with_plain_peft(root):
    from peft import PeftModel

    from coto.models import encoder

    plan = plan_of()
    trained(root, plan, "dora", "coto")
    job = job_of(root, plan, "train", **at("dora", "coto"))
    base = encoder.load(job.settings.loading.backbone, CPU.device, num_labels=2, seed=5)
    model = PeftModel.from_pretrained(base.model, job.outputs["adapter"])
    assert model.peft_config["default"].use_dora


def command_of(job: Job, out: Path, *more: str) -> list[str]:
    """Arguments of a training job whose outputs are in another folder."""
    outputs = [str(out / path.name) for path in job.outputs.values()]
    given = ["--settings", canonical(job.settings), "--root", str(job.root)]
    return ["train", *given, "--outputs", *outputs, *more]


def command_line(arguments: list[str]) -> None:
    logging.getLogger().handlers.clear()  # pytest's own: the command line makes its
    sys.exit(cli.main(arguments))


def wait_for_a_checkpoint(root: Path, process: Child) -> None:
    deadline = time.monotonic() + 120
    while not any(map(last_complete_checkpoint, root.glob(".checkpoints/*/"))):
        assert process.poll() is None, "training ended before its first checkpoint was seen"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_kill_and_resume_is_the_uninterrupted_run(root, forks):
    plan = plan_of(suites={"glue": {"train": {"steps": 40, "checkpoint_every": 5}}})
    job = job_of(root, plan, "train", **at("lora", "coto"))
    whole = trained(root, plan, "lora", "coto")
    out = root / "again"
    command = command_of(job, out, "--code", "x")
    process = forks.start(command_line, command)
    wait_for_a_checkpoint(root, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    again = forks.start(command_line, command)
    assert again.wait() == 0, again.output
    assert "going on from checkpoint-" in again.output
    assert same(load_file(out / "adapter" / "adapter_model.safetensors"), whole)
    norms = [
        json.loads(path.read_text())["rows"]
        for path in (out / "gradients.json", job.outputs["gradients"])
    ]
    assert norms[0] == norms[1]
    assert not list(root.glob(".checkpoints/*/checkpoint-*"))


def test_a_training_that_is_asked_to_end_keeps_its_last_step(root, forks):
    plan = plan_of(suites={"glue": {"train": {"steps": 60, "checkpoint_every": 7}}})
    job = job_of(root, plan, "train", **at("lora", "coto"))
    whole, out = trained(root, plan, "lora", "coto"), root / "again"
    forget_finished(root)
    command = command_of(job, out, "--code", "asked to end")
    process = forks.start(command_line, command)
    wait_for_a_checkpoint(root, process)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    step = re.search(r"asked to end: stopped after step (\d+) of 60", process.output)[1]
    assert not out.exists()
    again = forks.start(command_line, command)
    assert again.wait() == 0, again.output
    assert f"going on from checkpoint-{step}\n" in again.output
    assert same(load_file(out / "adapter" / "adapter_model.safetensors"), whole)


def test_an_adapter_that_cannot_have_learned_is_refused(tmp_path):
    from peft import LoraConfig, get_peft_model

    linear = torch.nn.Sequential(torch.nn.Linear(4, 4))
    model = get_peft_model(linear, LoraConfig(target_modules=["0"], r=2))
    model.save_pretrained(tmp_path / "zero")
    with pytest.raises(CotoError, match="every B is zero"):
        check_adapter(tmp_path / "zero")
    with torch.no_grad():
        model.base_model.model[0].lora_B.default.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    with pytest.raises(CotoError, match="not finite"):
        check_adapter(tmp_path / "nan")
    with pytest.raises(CotoError, match="cannot be read"):
        check_adapter(tmp_path / "absent")


def test_missing_rows_are_one_line_on_the_command_line(tmp_path):
    job = job_of(tmp_path, plan_of(), "train", **at("lora", "coto"))
    command = [sys.executable, "-m", "coto", *command_of(job, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert paths.data(*AT, "train") in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("adapter", list(LR))
def test_none_is_the_bare_backbone_with_the_runs_head(root, adapter):
    plan = plan_of(suites={"glue": {"train": {"steps": 30}}})
    out = run_job(root, plan, "train", **at(adapter, "coto"))
    (none,) = json.loads(out.with_name("none.json").read_text())["rows"]
    assert (none["lr"], none["seed"], none["n"]) == (float(LR[adapter]), 0, 12)

    job = job_of(root, plan, "prune", adapter=adapter, strategy="coto", seed=0)
    evaluator = Evaluator(job)
    heads = read_adapter(out.parent / "adapter").heads
    (bare,) = evaluator.score("movies", {}, heads)
    assert none["value"] == bare.metrics["accuracy"]


def test_a_search_leaves_the_test_part_alone(root):
    plan = plan_of(suites={"glue": {"evaluation": {"test": False}}})
    (root / paths.data(*AT, "test")).unlink()
    out = run_job(root, plan, "train", **at("lora", "coto"))
    for path in (out, out.with_name("none.json")):
        rows = json.loads(path.read_text())["rows"]
        assert {(row["split"], row["n"]) for row in rows} == {("validation", 8)}
    assert len(pd.read_parquet(out.with_name("answers.parquet"))) == 8


def test_adapters_off_is_peft_without_its_adapters_but_for_the_head(root):
    settings = job_of(root, plan_of(), "train", **at("lora", "vanilla")).settings
    start = load_model(settings.loading, CPU, 0)
    model = add_adapter(start, settings, 0).eval()
    layers = [m for m in model.modules() if hasattr(m, "lora_B")]
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B["default"].weight)
    rows = {"input_ids": torch.arange(100, 124).reshape(2, 12)}
    with torch.no_grad():
        whole = model(**rows).logits
        trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        with adapters_off(model):
            bare = model(**rows).logits
        again = model(**rows).logits
        after = {name for name, p in model.named_parameters() if p.requires_grad}
        with model.disable_adapter():  # its head is the fresh one, which this one still is
            expected = model(**rows).logits
    assert layers
    assert torch.equal(bare, expected)
    assert not torch.allclose(bare, whole)
    assert torch.equal(again, whole)
    assert after == trainable


@pytest.mark.parametrize("strategy", ["vanilla", "coto"])
@pytest.mark.parametrize("adapter", list(LR))
def test_fast_training_makes_the_adapter_that_plain_training_makes(root, adapter, strategy):
    def made(**fast: bool) -> dict:
        train = {"backbone_dropout": 0.0, "fast": fast}
        return trained(root, plan_of(suites={"glue": {"train": train}}), adapter, strategy)

    switches = Fast.model_fields
    plain, fast = made(**dict.fromkeys(switches, False)), made(**dict.fromkeys(switches, True))
    assert fast.keys() == plain.keys()
    assert not same(fast, plain)  # rounding tells that it is another path
    for name, tensor in plain.items():
        assert (fast[name] - tensor).norm() <= 1e-3 * tensor.norm() + 1e-6, name


def test_a_finished_training_outlives_its_outputs(root):
    plan = plan_of(suites={"glue": {"train": {"steps": 4}}})
    job = replace(job_of(root, plan, "train", **at("lora", "coto")), code="outlives")
    TRAIN.run(job)
    adapter = load_file(job.outputs["adapter"] / "adapter_model.safetensors")
    made = record.read(job.outputs["train"])["environment"]
    for path in job.outputs.values():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    TRAIN.run(job)  # as the next attempt, or a twin
    assert record.read(job.outputs["train"])["environment"] == made  # not trained again
    assert same(load_file(job.outputs["adapter"] / "adapter_model.safetensors"), adapter)
    forget_finished(root)
    assert not list(root.glob(".checkpoints/*/finished"))


def test_a_finished_training_that_has_changed_is_not_handed_over(root):
    plan = plan_of(suites={"glue": {"train": {"steps": 4}}})
    job = replace(job_of(root, plan, "train", **at("lora", "vanilla")), code="changed")
    TRAIN.run(job)
    made = record.read(job.outputs["train"])["environment"]
    (kept,) = root.glob(".checkpoints/*/finished/adapter/adapter_model.safetensors")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    TRAIN.run(job)
    assert record.read(job.outputs["train"])["environment"] != made
    forget_finished(root)
