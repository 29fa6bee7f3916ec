"""Trains the same global batches in one or two processes and writes the final adapters.

`main` runs in a process of its own, or in two with the environment that torchrun gives.
"""

import json
import os

import peft
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainerCallback, TrainingArguments

from coto import CoToCallback, progressive_training
from tools.tiny import tiny_batch, tiny_model

STEPS, GLOBAL_BATCH = 12, 8
WORLD, RANK = 1, 0


def bert(checkpointing=False):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    model = peft.get_peft_model(tiny_model("bert"), config)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def loop(model, accumulate=1, **strategy):
    wrapped = DistributedDataParallel(model, find_unused_parameters=True) if WORLD > 1 else model
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    wrapped.train()
    drawn = []
    with progressive_training(wrapped, total_steps=STEPS, seed=3, **strategy) as training:
        for step in range(STEPS):
            if training.gate is not None:
                drawn.append(training.gate.active.tolist())
            for micro in range(accumulate):
                batch = tiny_batch("bert", seed=step * accumulate + micro, size=GLOBAL_BATCH)
                mine = {key: value[RANK::WORLD] for key, value in batch.items()}
                (wrapped(**mine).loss / accumulate).backward()
            if training.gate is not None:  # what is off has no gradient on any rank
                for name, parameter in model.named_parameters():
                    if "lora_" in name:
                        on = drawn[-1][int(name.split("layer.")[1][0])]
                        assert (parameter.grad is not None) == on, (step, name)
            optimizer.step()
            optimizer.zero_grad()
            training.step()
    return drawn


class Draws(TrainerCallback):
    def __init__(self, callback):
        self.callback, self.drawn = callback, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.drawn.append(self.callback.gate.active.tolist())


def trainer(model, folder):
    batch = tiny_batch("bert", size=64)
    rows = [{key: value[index] for key, value in batch.items()} for index in range(64)]
    arguments = TrainingArguments(
        str(folder / "trainer"),
        max_steps=STEPS,
        per_device_train_batch_size=GLOBAL_BATCH // WORLD,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        ddp_backend="gloo" if WORLD > 1 else None,
        # if True, the Trainer multiplies the loss of a PEFT classifier by the number of processes
        average_tokens_across_devices=False,
        save_strategy="no",
        disable_tqdm=True,
        seed=3,
    )
    callback = CoToCallback()
    draws = Draws(callback)
    Trainer(model, arguments, train_dataset=rows, callbacks=[callback, draws]).train()
    return draws.drawn


def main(folder):
    global WORLD, RANK
    WORLD, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    torch.set_num_threads(1)
    if WORLD > 1:
        dist.init_process_group("gloo")
    drawn = {}
    cases = {
        "loop": (bert(), loop, {}),
        "accumulated": (bert(), loop, {"accumulate": 2}),
        "checkpointed": (bert(checkpointing=True), loop, {"p0": 0.0}),
        "stochastic-depth": (bert(), loop, {"strategy": "stochastic-depth"}),
        "trainer": (bert(), trainer, {"folder": folder}),
    }
    for name, (model, function, arguments) in cases.items():
        drawn[name] = function(model, **arguments)
        weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        save_file(weights, folder / f"{name}-{RANK}.safetensors")
    for name, wrapping in (
        ("error", {}),
        ("static", {"find_unused_parameters": True, "static_graph": True}),
    ):
        if WORLD > 1:
            try:
                wrapped = DistributedDataParallel(bert(), **wrapping)
                with progressive_training(wrapped, total_steps=3):
                    pass
            except ValueError as error:
                drawn[name] = str(error)
    if WORLD > 1:
        dist.destroy_process_group()
    (folder / f"drawn-{RANK}.json").write_text(json.dumps(drawn))
