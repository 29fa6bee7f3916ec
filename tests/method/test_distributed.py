import json
import socket

import ddp_worker
import pytest
import torch
from safetensors.torch import load_file

CASES = ["loop", "accumulated", "checkpointed", "stochastic-depth", "trainer"]


def environments(processes):
    """The variables that torchrun sets for every process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    return [world | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


@pytest.fixture(scope="module")
def folders(forks, tmp_path_factory):
    """Folders with the results of one process and of two."""
    found = {}
    for processes, variables in ((1, [{}]), (2, environments(2))):
        found[processes] = tmp_path_factory.mktemp(f"ddp{processes}")
        ranks = [forks.start(ddp_worker.main, found[processes], env=env) for env in variables]
        assert [rank.wait() for rank in ranks] == [0] * processes, ranks[0].output[-4000:]
    return found


def draws(folder, rank):
    return json.loads((folder / f"drawn-{rank}.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_ranks_draw_the_same_flags_as_one_process(folders, case):
    alone = draws(folders[1], 0)[case]
    assert len(alone) == ddp_worker.STEPS
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
    errors = draws(folders[2], 0)
    for name, setting in (("error", "find_unused_parameters"), ("static", "static_graph=True")):
        start = f"model: DistributedDataParallel was made with {setting}"
        assert errors[name].startswith(start)
        assert "\n" not in errors[name]
