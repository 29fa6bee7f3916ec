"""Pretrain the small glyph backbone: ``python -m tools.pretrain --out DIRECTORY``.

A vision transformer learns to name about a thousand characters (:mod:`tools.characters`)
that are drawn anew for every batch. A killed run goes on from its last checkpoint; the folder gets
``config.json`` and ``model.safetensors`` at the end, and ``training.json`` says how it went.
"""

import argparse
import json
import math
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from timm.layers.config import set_fused_attn
from timm.models.vision_transformer import VisionTransformer
from torch import Generator, Tensor, nn

from coto.device import resolve
from coto.models.images.vit import build
from coto.tasks.images.made import Distortion, draw, has, plates
from tools.characters import FONTS, HELD_OUT_FONTS, alphabet

CONFIG: dict[str, Any] = {
    "architecture": "VisionTransformer",
    "arguments": {
        "embed_dim": 128,
        "depth": 8,
        "num_heads": 4,
        "mlp_ratio": 2,
        "class_token": False,
        "global_pool": "avg",
    },
    "stem": {"channels": [32, 64, 128]},
    "image_size": 32,
    "channels": 1,
    "mean": [0.5],
    "std": [0.25],
}
BATCH = 128
RATE = 1.5e-3
WARM_UP = 200
RAMP = 2500  # steps until distortion is at its full strength
WEIGHT_DECAY = 0.05
SMOOTHING = 0.1
CHECKPOINT_EVERY = 250
SEED = 20261124
FULL = Distortion()


class Glyphs:
    """Plates of every class in some fonts, drawn from class by class, then font by font."""

    def __init__(self, classes: dict[str, tuple[str, ...]]) -> None:
        pairs = [(font, character) for character, fonts in classes.items() for font in fonts]
        self.plates = plates(pairs)
        self.counts = torch.tensor([len(fonts) for fonts in classes.values()])
        self.starts = self.counts.cumsum(0) - self.counts
        self.inhabited = self.counts.nonzero()[:, 0]

    def batch(
        self, size: int, distortion: Distortion, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Normalised pictures (size, 1, 32, 32) and their classes."""
        labels = self.inhabited[torch.randint(len(self.inhabited), (size,), generator=generator)]
        places = (torch.rand(size, generator=generator) * self.counts[labels]).long()
        chosen = self.plates[self.starts[labels] + places]
        pictures = draw(chosen, distortion, generator, CONFIG["image_size"])
        return (pictures - CONFIG["mean"][0]) / CONFIG["std"][0], labels


def rate(step: int, steps: int) -> float:
    """Learning rate: linear warm-up, then cosine to zero."""
    if step < WARM_UP:
        return RATE * (step + 1) / WARM_UP
    return RATE * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def ramp(step: int) -> Distortion:
    """Distortion at a step: all its amounts grow together, from a tenth to the full.

    Among a thousand classes at full distortion the loss does not leave its plateau for long.
    """
    share = min(1.0, 0.1 + 0.9 * step / RAMP)
    amounts = {field.name: getattr(FULL, field.name) * share for field in fields(FULL)}
    contrast = 1 - (1 - FULL.contrast) * share  # least contrast: less is harder
    return Distortion(**amounts | {"lattice": FULL.lattice, "contrast": contrast})


def initialise(model: VisionTransformer) -> None:
    """Xavier for the blocks: at timm's 0.02 a width of 128 starts close to the identity."""
    for block in model.blocks.modules():
        if isinstance(block, nn.Linear):
            nn.init.xavier_uniform_(block.weight)


def train(out: Path, steps: int, device: str, minutes: float) -> VisionTransformer:
    """Train for `steps`, or until `minutes` of computing are over, and write the folder.

    With a time limit the learning rate follows whichever of both is further on, so that it always
    ends at zero.
    """
    set_fused_attn(False)  # twice as fast for 16 tokens on a CPU
    compute = resolve(device, "auto")
    torch.manual_seed(SEED)
    classes = alphabet()
    glyphs = Glyphs(classes)
    model = build(CONFIG | {"arguments": CONFIG["arguments"] | {"num_classes": len(classes)}})
    initialise(model)
    model = model.to(compute.device)
    plain = [p for p in model.parameters() if p.ndim < 2]
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
        lr=RATE,
        betas=(0.9, 0.98),
    )
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    step, spent, average = 0, 0.0, 0.0
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, average = state["step"], state["spent"], state["average"]
    before = time.monotonic() - spent
    while True:
        done = max(step / steps, (time.monotonic() - before) / (60 * minutes))
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(max(step, round(done * steps)) if step >= WARM_UP else step, steps)
        generator = Generator().manual_seed(SEED + step)
        pictures, labels = glyphs.batch(BATCH, ramp(step), generator)
        with compute.autocast():
            logits = model(pictures.to(compute.device))
        labels = labels.to(compute.device)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        hit = float((logits.argmax(1) == labels).float().mean())
        average = hit if step == 0 else 0.99 * average + 0.01 * hit
        step += 1
        if step % 50 == 0:
            spent = time.monotonic() - before
            print(f"step {step} loss {loss:.3f} accuracy {average:.3f} {spent:.0f} s", flush=True)
        if step % CHECKPOINT_EVERY == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"step": step, "spent": time.monotonic() - before, "average": average}
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    spent = time.monotonic() - before
    record = {
        "steps": step,
        "batch": BATCH,
        "seconds": round(spent),
        "classes": len(classes),
        "glyphs": len(glyphs.plates),
        "parameters": sum(p.numel() for name, p in model.named_parameters() if "head." not in name),
        **compute.describe(torch.get_num_threads()),
        "accuracy": measure(model, classes),
    }
    write(model, out, record)
    checkpoint.unlink(missing_ok=True)
    return model


@torch.no_grad()
def measure(model: VisionTransformer, classes: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """Share of 10,240 new pictures named right, in the fonts trained on and in held-out ones."""
    model.eval()
    device = next(model.parameters()).device
    shares = {}
    for name, fonts in (("training fonts", FONTS), ("held-out fonts", HELD_OUT_FONTS)):
        glyphs = Glyphs({c: tuple(font for font in fonts if has(font, c)) for c in classes})
        generator = Generator().manual_seed(SEED - 1)
        hits = 0
        for _ in range(40):
            pictures, labels = glyphs.batch(256, FULL, generator)
            hits += int((model(pictures.to(device)).argmax(1).cpu() == labels).sum())
        shares[name] = round(hits / (40 * 256), 4)
    return shares


def write(model: VisionTransformer, out: Path, record: dict[str, Any]) -> None:
    """Write the folder: configuration, weights without the head (fp16), and the record."""
    weights = {
        name: tensor.detach().cpu().half().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith("head.")
    }
    (out / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    for name, content in (("config", CONFIG), ("training", record)):
        (out / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop earlier, at rate 0")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.device, arguments.minutes)


if __name__ == "__main__":
    main()
