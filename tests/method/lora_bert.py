"""A tiny BERT with a LoRA that is not zero, for the tests of the gate."""

import peft
import torch
from torch import nn

from tools.tiny import tiny_batch, tiny_model

QUERY_VALUE = ["query", "value"]


def bert(seed=0, **settings):
    """A tiny BERT with LoRA whose B is not zero, in train mode; no dropout anywhere."""
    config = peft.LoraConfig(
        **({"r": 2, "target_modules": QUERY_VALUE, "task_type": "SEQ_CLS"} | settings)
    )
    model = peft.get_peft_model(tiny_model("bert"), config)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.5)
    return model.train()


def logits(model):
    with torch.no_grad():
        return model(**tiny_batch("bert")).logits
