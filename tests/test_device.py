"""What ``precision = auto`` stands for on a CPU."""

import json

import pytest
import torch

from coto import device, record
from coto.config.plan import Plan
from coto.measurements.train import compute_of
from tests.measurements.conftest import job_of, plan_of


@pytest.fixture
def measuring(monkeypatch):
    """Speeds that a machine would measure, one after the other; returns those that are left."""
    speeds = [2.0, 0.8]
    monkeypatch.setattr(device, "bf16_speedup", lambda width: speeds.pop(0))
    monkeypatch.setattr(device, "BF16_ON_CPU", True)
    return speeds


def test_the_first_job_of_a_results_folder_measures_for_all(tmp_path, measuring):
    file = tmp_path / ".cache/bf16-minilm.json"
    first = device.resolve("cpu", "auto", 384, file)
    assert (first.dtype, first.speedup) == (torch.bfloat16, 2.0)
    assert device.resolve("cpu", "auto", 384, file) == first
    assert measuring == [0.8]
    other = device.resolve("cpu", "auto", 384, tmp_path / "other.json")
    assert (other.dtype, other.speedup) == (torch.float32, 0.8)


def test_another_machine_follows_and_says_so(tmp_path, measuring, monkeypatch, caplog):
    first = device.resolve("cpu", "auto", 384, tmp_path / "speed.json")
    caplog.set_level("INFO")
    monkeypatch.setattr(record, "processor", lambda: "another CPU")
    assert device.resolve("cpu", "auto", 384, tmp_path / "speed.json") == first
    assert "as measured on another machine" in caplog.text


def test_fp32_until_bf16_may_be_chosen(tmp_path, measuring, monkeypatch):
    monkeypatch.setattr(device, "BF16_ON_CPU", False)
    found = device.resolve("cpu", "auto", 384, tmp_path / "speed.json")
    assert (found.dtype, found.speedup) == (torch.float32, 2.0)


def test_a_given_precision_is_not_measured(tmp_path, measuring):
    assert device.resolve("cpu", "bf16", 384, tmp_path / "speed.json").speedup is None
    assert device.resolve("cpu", "fp32").describe(1) == {
        "device": "CPU",
        "precision": "fp32",
        "threads": 1,
    }
    assert len(measuring) == 2


def test_jobs_of_a_folder_share_what_was_measured(tmp_path):
    plan: Plan = plan_of(precision="auto")
    place = {"task": "movies", "adapter": "lora", "strategy": "coto", "lr": "0.004", "seed": 0}
    job = job_of(tmp_path, plan, "train", **place)
    computes = [compute_of(job, job.settings.loading) for _ in range(2)]
    assert computes[0] == computes[1]
    (file,) = tmp_path.glob(".cache/*.json")
    assert file.name == "bf16-minilm.json"
    speedup = computes[0].describe(1)["bf16_speedup"]
    assert json.loads(file.read_text())["speedup"] == speedup
    assert 0.01 < speedup < 100
