"""The same stages on a GPU: `python -m pytest -m gpu` on a machine that has one."""

import pytest
import torch

from coto import record
from coto.config import paths
from coto.stages import merge, overhead, prune, subnetworks, train
from tests.stages.conftest import AT, job_of, plan_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible"),
]


@pytest.mark.parametrize("adapter", ["lora", "dora", "hira"])
def test_a_gpu_trains_prunes_and_is_named(root, adapter):
    plan = plan_of(device="cuda", precision="auto")
    lr = plan.grid("glue", adapter, "coto")[0]
    folder = root / paths.run(*AT, adapter, "coto", lr, 0)
    weights, out = root / paths.adapter_weights(str(folder)), folder / "train.json"
    answers, norms = root / paths.answers(str(folder)), folder / "gradients.json"
    job = job_of(root, plan.train(*AT, adapter, "coto", lr, "0"))
    train.run(job, weights, answers, norms, out)
    pruned = root / "prune.json"
    prune.run(job_of(root, plan.prune("glue", adapter, "coto", "0")), pruned)
    gpu = torch.cuda.get_device_name()
    assert record.read(out)["environment"]["device"] == gpu
    (whole,) = (
        row["value"]
        for row in record.read(pruned)["rows"]
        if row["method"] == "structured" and row["keep"] == "all"
    )
    (trained,) = (r["value"] for r in record.read(out)["rows"] if r["split"] == "test")
    assert abs(whole - trained) <= 1 / 12  # one row of twelve: W + ΔW rounds otherwise in bf16
    for stage in (merge, subnetworks):
        name = stage.__name__.rpartition(".")[2]
        settings = getattr(plan, name)("glue", adapter, "coto", "0")
        stage.run(job_of(root, settings), root / f"{name}.json")
        assert record.read(root / f"{name}.json")["rows"]
    timed = root / "overhead.json"
    overhead.run(job_of(root, plan.overhead("glue", adapter)), timed)
    assert {row["device"] for row in record.read(timed)["rows"]} == {gpu}
