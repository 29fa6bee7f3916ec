"""Small vision models on disk, random pictures, and what holds for adapters on any of them."""

import io
import json
import string

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from coto.adapters.delta import deltas
from coto.adapters.kinds import Adapter, peft_config
from coto.adapters.store import read_adapter
from coto.models.images import vit
from coto.models.settings import NamedBackbone
from coto.models.weights import base_weights, changed

VIT_CONFIG = {
    "architecture": "VisionTransformer",
    "arguments": {
        "embed_dim": 16,
        "depth": 3,
        "num_heads": 2,
        "class_token": False,
        "global_pool": "avg",
    },
    "stem": {"channels": [6, 8]},
    "mean": [0.4],
    "std": [0.3],
    "image_size": 12,
    "channels": 1,
}
CLASSES = ["maine_coon", "pug", "sphynx"]


def backbone(family, **source):
    """A backbone of a family out of a source."""
    return NamedBackbone(name="small", family=family, **source)


def write_vit(folder, seed=0, **changes):
    """Write a small random vision transformer as `make backbone` writes its own."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = VIT_CONFIG | changes
    model = vit.build(config)
    for parameter in model.parameters():  # biases, too: what is zero proves nothing
        torch.nn.init.normal_(parameter, std=0.2)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "model.safetensors")
    return model


def write_clip(folder, layers=2):
    """Write a small random CLIP of so many layers per encoder, with a tokenizer of letters."""
    torch.manual_seed(0)
    letters = [*string.ascii_lowercase, ".", *(f"{c}</w>" for c in string.ascii_lowercase), ".</w>"]
    words = [*letters, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    shape |= {"num_hidden_layers": layers}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    text = shape | ends | {"vocab_size": len(words), "max_position_embeddings": 40}
    vision = shape | {"image_size": 16, "patch_size": 8}
    config = CLIPConfig(
        text_config=text | {"pad_token_id": len(words) - 1}, vision_config=vision, projection_dim=8
    )
    model = CLIPModel(config).eval()
    for parameter in model.parameters():
        if parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return model


def png(array):
    """An image file's content."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def pictures(per_class, classes=3, side=14, channels=1, seed=0):
    """Rows of random images whose brightness tells their class."""
    draw = np.random.default_rng(seed)
    shape = (side, side) if channels == 1 else (side, side, channels)
    labels = np.tile(np.arange(classes), per_class)
    images = [
        png((60 * label + draw.integers(0, 100, shape)).clip(0, 255).astype(np.uint8))
        for label in labels
    ]
    rows = pd.DataFrame({"image": images, "label": labels, "idx": np.arange(len(labels)) + 100})
    rows.attrs["class_names"] = CLASSES[:classes]
    return rows


def adapted(model, kind, targets, heads):
    """A PEFT model, as the pipeline makes it."""
    import peft

    settings = Adapter(kind=kind, rank=2, alpha=4.0, dropout=0.0)
    return peft.get_peft_model(model, peft_config(settings, targets, heads, None))


def train(model, batch, steps=2):
    """So many steps of AdamW; returns the names of the parameters that have changed."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def outputs_of_saved_adapter(trained, plain, batch, folder):
    """Logits of a trained PEFT model, and of the plain model with the saved adapter's ΔW."""
    trained.eval(), plain.eval()
    trained.save_pretrained(folder)
    adapter = read_adapter(folder)
    change = deltas(adapter, base_weights(plain, list(adapter.modules)))
    with torch.no_grad(), changed(plain, change, adapter.heads) as model:
        return trained(**batch).logits, model(**batch).logits
