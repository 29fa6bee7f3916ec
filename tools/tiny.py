"""Tiny models and batches, made from configurations, to try things in milliseconds."""

from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

LAYERS = 3
HIDDEN = 32
VOCABULARY = 40


def tiny_model(name: str, seed: int = 0) -> nn.Module:
    """Return a randomly initialised BERT, Llama or ViT of 3 layers and width 32."""
    shape: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    text: dict[str, Any] = {"vocab_size": VOCABULARY, "max_position_embeddings": 16}
    torch.manual_seed(seed)
    if name == "bert":
        return BertForSequenceClassification(BertConfig(**shape, **text)).eval()
    if name == "llama":
        config = LlamaConfig(**shape, **text, attention_bias=True, pad_token_id=0)
        return LlamaForCausalLM(config).eval()
    if name == "vit":
        return ViTForImageClassification(ViTConfig(**shape, image_size=16, patch_size=8)).eval()
    raise ValueError(f"model: got {name!r}, expected bert, llama or vit")


def tiny_batch(name: str, seed: int = 0, size: int = 4) -> dict[str, torch.Tensor]:
    """Return a random batch, with labels, for the tiny model called ``name``."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 2, (size,), generator=generator)
    if name == "vit":
        return {
            "pixel_values": torch.randn(size, 3, 16, 16, generator=generator),
            "labels": classes,
        }
    ids = torch.randint(1, VOCABULARY, (size, 8), generator=generator)
    return {"input_ids": ids, "labels": ids if name == "llama" else classes}
