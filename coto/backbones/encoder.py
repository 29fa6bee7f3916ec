"""Sequence classifiers on pretrained encoders."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers import logging as transformers_logging
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from coto.backbones.locate import locate, set_dropout
from coto.errors import CotoError


@dataclass(frozen=True)
class Encoder:
    """A classifier without adapters, its tokenizer, and the names that adapters need."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    heads: tuple[str, ...]
    """Modules that the checkpoint did not have: they are trained in full, in both arms."""


def load(
    backbone: Mapping[str, Any],
    device: torch.device,
    *,
    num_labels: int,
    seed: int,
    dropout: float = 0.0,
) -> Encoder:
    """Load a pretrained encoder with a fresh classification head.

    Args:
        backbone: settings (:class:`coto.config.definitions.Backbone`).
        device: where the model will compute; it is loaded to the CPU.
        num_labels: classes; 1 is regression.
        seed: of the head's initialisation, so that both arms of a pair start from the same head.
        dropout: probability of every dropout inside the backbone, while it trains.
    """
    where, arguments = locate(backbone)
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # a fresh head is what we ask for
    torch.manual_seed(seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **arguments)
        config = AutoConfig.from_pretrained(where, num_labels=num_labels, **arguments)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            where,
            config=set_dropout(config, dropout),
            output_loading_info=True,
            # On a CPU the backward pass of torch's fused attention takes longer than all the rest.
            attn_implementation="eager" if device.type == "cpu" else None,
            dtype=torch.float32,
            **arguments,
        )
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise CotoError(f"backbone = {where!r}: cannot be loaded ({reason})") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    return Encoder(model, tokenizer, _fresh_modules(model, set(report["missing_keys"])))


def _fresh_modules(model: PreTrainedModel, missing: set[str]) -> tuple[str, ...]:
    """Outermost modules of which the checkpoint had no parameter at all."""
    parameters = {name for name, _ in model.named_parameters()}
    fresh: list[str] = []
    for name, _ in model.named_modules():
        own = {p for p in parameters if p.startswith(f"{name}.")}
        inside = any(name.startswith(f"{outer}.") for outer in fresh)
        if name and own and own <= missing and not inside:
            fresh.append(name)
    return tuple(fresh)
