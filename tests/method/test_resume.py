import json
import random
import signal

import pytest
import resume_worker
import torch
from resume_worker import SAVE_STEPS, STRATEGIES
from safetensors.torch import save_file

from coto.method.checkpoint import last_complete_checkpoint


@pytest.fixture(scope="module")
def cases(forks, tmp_path_factory):
    seed, root = random.randrange(1000), tmp_path_factory.mktemp("resume")
    trainings = forks.start(resume_worker.main, root, seed)
    assert trainings.wait() == 0, f"seed {seed}: {trainings.output[-3000:]}"
    return json.loads((root / "cases.json").read_text())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_kill_9_and_resume_gives_the_same_adapter_bit_for_bit(cases, strategy):
    case = cases[strategy]
    assert case["killed"] == -signal.SIGKILL
    # not the torn checkpoint, which has a higher number, and not from the beginning
    step = case["kill_at"] - case["kill_at"] % SAVE_STEPS
    assert case["resumed_from"] == f"checkpoint-{step}"
    assert case["resumed"] == 0
    assert case["broken"] == case["whole"], case


def test_strategies_do_train_differently(cases):
    assert len({case["whole"] for case in cases.values()}) == len(STRATEGIES)


# --- which checkpoint is complete ----------------------------------------------------------------


def write_checkpoint(folder, step):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"a": torch.ones(7), "b": torch.ones(3)}, path / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"x": torch.ones(5)}, path / name)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def test_the_newest_complete_checkpoint_is_found_by_number(tmp_path):
    for step in (4, 100, 20):
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-900").mkdir()  # empty, as a crash at the start of saving leaves it
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")


def test_no_folder_and_no_checkpoint_mean_none(tmp_path):
    assert last_complete_checkpoint(tmp_path) is None
    assert last_complete_checkpoint(tmp_path / "missing") is None


FILES = [
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "last byte"])
def test_a_checkpoint_with_a_damaged_file_is_skipped(tmp_path, name, damage):
    write_checkpoint(tmp_path, 4)
    file = write_checkpoint(tmp_path, 8) / name
    assert last_complete_checkpoint(tmp_path).endswith("checkpoint-8")
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        kept = {"empty": 0, "half": len(content) // 2, "last byte": len(content) - 1}[damage]
        file.write_bytes(content[:kept])
    assert last_complete_checkpoint(tmp_path).endswith("checkpoint-4")


def test_a_checkpoint_of_another_step_is_skipped(tmp_path):
    path = write_checkpoint(tmp_path, 8)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": 4}))
    assert last_complete_checkpoint(tmp_path) is None
