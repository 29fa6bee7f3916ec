"""Models of known shapes with random weights: values do not change what a step costs."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from benchmarks.common.steps import Batch
from coto.adapters.kinds import Adapter, peft_config
from coto.device import Compute
from coto.settings import Model, Positive

# `output.dense` is the end of the names of two layers: of attention's and the MLP's output.
BERT_LINEAR = ("query", "key", "value", "output.dense", "intermediate.dense")
LLAMA_FIVE = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")


class BertShape(Model):
    """An encoder's shape; the defaults are MiniLM-L6's."""

    layers: Positive = 6
    width: Positive = 384
    heads: Positive = 12
    mlp: Positive = 1536
    vocabulary: Positive = 30522


class LlamaShape(Model):
    """A language model's shape; the defaults are Llama-3-8B's."""

    layers: Positive = 32
    width: Positive = 4096
    heads: Positive = 32
    key_value_heads: Positive = 8
    mlp: Positive = 14336
    vocabulary: Positive = 128256


def bert(shape: BertShape, compute: Compute) -> PreTrainedModel:
    """A classifier of two classes without dropout, as this project trains them."""
    config = BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.mlp,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    model: Any = BertForSequenceClassification(config)
    return model.to(compute.device)


def llama(shape: LlamaShape, compute: Compute) -> PreTrainedModel:
    """A language model, made on its device, whose weights are bf16."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.mlp,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
        use_cache=False,
    )
    torch.manual_seed(0)
    with torch.device(compute.device):
        return LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)


def with_adapter(
    model: PreTrainedModel, kind: str, rank: int, targets: Sequence[str], heads: Sequence[str] = ()
) -> PeftModel:
    """The model with an adapter of a kind of the project, which PEFT makes."""
    torch.manual_seed(0)
    return get_peft_model(model, peft_config(Adapter(kind=kind, rank=rank), targets, heads))


def batches(
    vocabulary: int, size: int, length: int, compute: Compute, *, causal: bool, count: int = 4
) -> list[Batch]:
    """Random tokens without padding, with a class each, or with themselves as labels."""
    generator = torch.Generator().manual_seed(0)
    found: list[Batch] = []
    for _ in range(count):
        tokens = torch.randint(5, vocabulary, (size, length), generator=generator)
        labels = tokens if causal else torch.randint(0, 2, (size,), generator=generator)
        batch: dict[str, Any] = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        batch["labels"] = labels
        found.append({name: tensor.to(compute.device) for name, tensor in batch.items()})
    return found
