"""Small models with adapters that are not zero, and batches in which it matters what is read."""

from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from coto.models.images.model import load_clip
from coto.models.images.vit import load as load_vit
from tests.models.small_vision import CLASSES, backbone, write_clip, write_vit

CPU = torch.device("cpu")
NAMES = ("bert", "bert-sdpa", "roberta", "llama", "llama-sdpa", "llama-packed", "vit", "clip")
LANGUAGE = ("llama", "llama-sdpa", "llama-packed")
HEADS = {"bert": ["classifier"], "roberta": ["classifier"], "vit": ["head"]}
TARGETS = {
    "bert": ["query", "key", "value", "dense"],
    "roberta": ["query", "key", "value", "intermediate.dense"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "vit": ["q", "k", "v", "attn.proj", "fc1", "fc2"],
    "clip": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
}
IDS = torch.randint(3, 40, (4, 9), generator=torch.Generator().manual_seed(0))


def plain(name: str, folder: Path, dropout: float = 0.0) -> nn.Module:
    """A random model without adapters."""
    family, _, way = name.partition("-")
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"intermediate_size": 48, "vocab_size": 40, "max_position_embeddings": 24}
    shape |= {"attn_implementation": "sdpa" if way == "sdpa" else "eager"}
    shape |= {"initializer_range": 0.2}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if family == "bert":
        return BertForSequenceClassification(BertConfig(**shape, **rates))
    if family == "roberta":
        return RobertaForSequenceClassification(RobertaConfig(**shape, **rates))
    if family == "llama":
        config = LlamaConfig(**shape, num_key_value_heads=2, attention_dropout=dropout)
        return LlamaForCausalLM(config)
    if family == "vit":
        arguments = {"embed_dim": 16, "depth": 3, "num_heads": 2, "qk_norm": True}
        write_vit(folder / "vit", arguments=arguments)
        model, _ = load_vit(
            backbone("vit", path=str(folder / "vit")), CPU, classes=3, dropout=dropout
        )
        nn.init.normal_(model.head.weight)
        return model
    write_clip(folder / "clip")
    clip, _ = load_clip(backbone("clip", path=str(folder / "clip")), CPU, dropout=dropout)
    clip.set_classes(CLASSES, "a photo of a {}.")
    return clip


def adapted(
    name: str, folder: Path, dropout: float = 0.0, kind: str = "lora", **settings: Any
) -> peft.PeftModel:
    """The same with a LoRA, DoRA or HiRA, in training mode."""
    family = name.partition("-")[0]
    if kind == "dora":
        settings["use_dora"] = True
    config = (peft.HiraConfig if kind == "hira" else peft.LoraConfig)(
        r=2,
        target_modules=TARGETS[family],
        modules_to_save=HEADS.get(family),
        task_type="CAUSAL_LM" if family == "llama" else None,
        **settings,
    )
    model = peft.get_peft_model(plain(name, folder, dropout), config)
    torch.manual_seed(1)
    for parameter_name, parameter in model.named_parameters():
        if "magnitude" in parameter_name:  # PEFT makes it the norm of W: far from it, too
            parameter.data.mul_(1 + 0.2 * torch.rand_like(parameter))
        elif "lora_" in parameter_name or "hira_" in parameter_name:
            nn.init.normal_(parameter, std=0.1)
    return model.train()


def batch(name: str) -> dict[str, Tensor]:
    """A batch with padding, and answers of several lengths at several places."""
    family = name.partition("-")[0]
    lengths = torch.tensor([9, 7, 4, 9])
    present = (torch.arange(9) < lengths[:, None]).long()
    if family in ("vit", "clip"):
        size = (4, 1, 12, 12) if family == "vit" else (4, 3, 16, 16)
        pixels = torch.randn(size, generator=torch.Generator().manual_seed(0))
        return {"pixel_values": pixels, "labels": torch.tensor([0, 1, 2, 0])}
    if family != "llama":
        return {"input_ids": IDS, "attention_mask": present, "labels": torch.tensor([0, 1, 1, 0])}
    labels = torch.full_like(IDS, -100)
    if name == "llama-packed":
        labels[:, 3], labels[:, 7:] = IDS[:, 3], IDS[:, 7:]
        return {
            "input_ids": IDS,
            "position_ids": torch.arange(9).repeat(4, 1) % 5,
            "labels": labels,
        }
    for row, (start, stop) in enumerate([(5, 9), (6, 7), (2, 4), (7, 9)]):
        labels[row, start:stop] = IDS[row, start:stop]
    return {"input_ids": IDS, "attention_mask": present, "labels": labels}


def gradients(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    """Loss, and gradient of everything that trains, by name."""
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), found
