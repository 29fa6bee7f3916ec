"""Trains every strategy three times: uninterrupted, killed with SIGKILL, and resumed.

`main` runs in a process of its own, with one thread, and forks a child for every training, so that
a kill is a real one and costs no second import.
"""

import hashlib
import json
import os
import random
import shutil
import signal
from pathlib import Path

import peft
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from coto import CoToCallback
from coto.method.checkpoint import last_complete_checkpoint
from tools.tiny import tiny_batch, tiny_model

STEPS, SAVE_STEPS = 13, 4
STRATEGIES = [
    "vanilla",
    "coto",
    "coto-high",
    "coto-low",
    "stochastic-depth",
    "stochastic-depth-linear",
    "dropout",
    "progressive-dropout",
]


class KillAt(TrainerCallback):
    """Dies between backward pass and update, like a machine that loses power."""

    def __init__(self, step):
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder, strategy, kill_at=None, resume=None):
    random.seed()  # a new process starts with any random state
    torch.seed()
    base = tiny_model("bert")
    for module in base.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=2, lora_dropout=0.1, target_modules=["query", "value"], task_type="SEQ_CLS"
    )
    model = peft.get_peft_model(base, config)
    torch.seed()
    batch = tiny_batch("bert", size=48)
    rows = [{key: value[index] for key, value in batch.items()} for index in range(48)]
    arguments = TrainingArguments(
        str(folder),
        max_steps=STEPS,
        save_steps=SAVE_STEPS,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        weight_decay=0.1,
        logging_steps=1000,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=13,
    )
    callbacks = [CoToCallback(strategy), KillAt(kill_at)]
    Trainer(model, arguments, train_dataset=rows, callbacks=callbacks).train(
        resume_from_checkpoint=resume
    )
    model.save_pretrained(folder / "final")


def in_child(function, *arguments, **keywords):
    """Run in a forked child; return its signal (negative) or exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function(*arguments, **keywords)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def digest(folder):
    return hashlib.sha256((folder / "final/adapter_model.safetensors").read_bytes()).hexdigest()


def tear(folder, step):
    """Leave what a crash in the middle of saving leaves: a newer checkpoint, cut off."""
    torn = folder / f"checkpoint-{STEPS + step}"
    shutil.copytree(folder / f"checkpoint-{step}", torn)
    weights = torn / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (torn / "trainer_state.json").unlink()


def one_case(root, strategy, kill_at):
    whole, broken = root / strategy / "whole", root / strategy / "broken"
    assert in_child(train, whole, strategy) == 0
    killed = in_child(train, broken, strategy, kill_at=kill_at)
    last = last_complete_checkpoint(broken)
    tear(broken, int(last.rpartition("-")[2]))
    resume = last_complete_checkpoint(broken)
    resumed = in_child(train, broken, strategy, resume=resume)
    return {
        "killed": killed,
        "kill_at": kill_at,
        "resumed": resumed,
        "resumed_from": Path(resume).name,
        "whole": digest(whole),
        "broken": digest(broken),
    }


def main(root, seed):
    """Write what came of every strategy to ``root/cases.json``."""
    torch.set_num_threads(1)
    peft.get_peft_model(
        tiny_model("bert"), peft.LoraConfig(target_modules=["query"])
    ).save_pretrained(
        root / "warm"  # what the first save compiles, the children inherit
    )
    draw = random.Random(seed)
    cases = {s: draw.randrange(SAVE_STEPS + 1, STEPS) for s in STRATEGIES}
    found = {s: one_case(root, s, at) for s, at in cases.items()}
    (root / "cases.json").write_text(json.dumps(found))
