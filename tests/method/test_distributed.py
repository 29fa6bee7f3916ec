import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).with_name("ddp_worker.py")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
CASES = ["loop", "accumulated", "checkpointed", "stochastic-depth", "trainer"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders with the results of one process and of two."""
    found = {}
    for processes, command in ((1, []), (2, TORCHRUN)):
        found[processes] = tmp_path_factory.mktemp(f"ddp{processes}")
        result = subprocess.run(
            [sys.executable, *command, WORKER, found[processes]],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr[-4000:]
    return found


def draws(folder, rank):
    return json.loads((folder / f"drawn-{rank}.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_ranks_draw_the_same_flags_as_one_process(folders, case):
    alone = draws(folders[1], 0)[case]
    assert len(alone) == 16
    assert any(not all(flags) for flags in alone)
    assert alone == draws(folders[2], 0)[case] == draws(folders[2], 1)[case]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_the_same_adapter_as_one(folders, case):
    alone = load_file(folders[1] / f"{case}-0.safetensors")
    ranks = [load_file(folders[2] / f"{case}-{rank}.safetensors") for rank in (0, 1)]
    assert len(alone) > 12
    for name, weight in alone.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_a_wrapper_that_would_fail_is_refused_in_one_line(folders):
    error = draws(folders[2], 0)["error"]
    assert error.startswith("model: DistributedDataParallel was made with find_unused_parameters")
    assert "\n" not in error
