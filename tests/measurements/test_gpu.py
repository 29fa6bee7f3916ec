"""The same measurements on a GPU: `python -m pytest -m gpu` on a machine that has one."""

import pytest
import torch

from coto import record
from tests.measurements.conftest import plan_of, run_job

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible"),
]


@pytest.mark.parametrize("adapter", ["lora", "dora", "hira"])
def test_a_gpu_trains_prunes_and_is_named(root, adapter):
    plan = plan_of(device="cuda", precision="auto")
    lr = plan.grid("glue", adapter, "coto")[0]
    arm = {"adapter": adapter, "strategy": "coto", "seed": 0}
    trained = record.read(run_job(root, plan, "train", task="movies", lr=lr, **arm))
    pruned = record.read(run_job(root, plan, "prune", **arm))
    gpu = torch.cuda.get_device_name()
    assert trained["environment"]["device"] == gpu
    (whole,) = (
        row["value"]
        for row in pruned["rows"]
        if row["method"] == "structured" and row["keep"] == "all"
    )
    (score,) = (
        row["value"] for row in trained["rows"] if row["split"] == "test" and row["headline"]
    )
    assert abs(whole - score) <= 1 / 12  # one row of twelve: W + ΔW rounds otherwise in bf16
    for name in ("merge", "subnetworks"):
        assert record.read(run_job(root, plan, name, **arm))["rows"]
    timed = record.read(run_job(root, plan, "overhead", adapter=adapter))
    assert {row["device"] for row in timed["rows"]} == {gpu}
