"""Causal language models by name, and how their texts become tokens."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers import logging as transformers_logging
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from coto.backbones.locate import locate, set_dropout
from coto.errors import CotoError

# Vocabularies name their unused tokens differently; the first that is there becomes padding.
_UNUSED = ("<|finetune_right_pad_id|>", "<|reserved_special_token_0|>", "<|endoftext|>", "<pad>")


@dataclass(frozen=True)
class Causal:
    """A language model without adapters, and its tokenizer.

    A text starts as the tokenizer's own convention says, with BOS or without; EOS is never added
    unasked. Padding is told by attention masks made from lengths, never by the token's id.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def max_length(self) -> int:
        """Tokens that the model may read."""
        return getattr(self.model.config, "max_position_embeddings", None) or 2048

    @property
    def narrows(self) -> bool:
        """Whether the model can compute the logits of some tokens only."""
        return "logits_to_keep" in inspect.signature(self.model.forward).parameters

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, with BOS if the tokenizer has that habit."""
        return self.tokenizer(texts, return_attention_mask=False)["input_ids"]

    def encode_pairs(
        self, prompts: list[str], targets: list[str]
    ) -> tuple[list[list[int]], list[int]]:
        """Token ids of prompts with what follows them, and how many of them are the prompts'.

        Both are encoded as one text. A prompt's trailing blanks count as the target's, because a
        tokenizer joins a blank with the word after it; so lm-eval divides texts too.
        """
        whole = [prompt + target for prompt, target in zip(prompts, targets, strict=True)]
        stems = [prompt.rstrip() for prompt in prompts]
        return self.encode(whole), [len(ids) for ids in self.encode(stems)]


def load(
    backbone: Mapping[str, Any],
    device: torch.device,
    *,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Causal:
    """Load a pretrained language model.

    Args:
        backbone: settings (:class:`coto.config.definitions.Backbone`).
        device: where the model will compute; it is loaded to the CPU.
        dropout: probability of every dropout inside the backbone, while it trains.
        dtype: of matrix products. Weights are held in bf16 if these are, else in fp32.

    Raises:
        CotoError: if it cannot be found, or is no causal language model.
    """
    where, arguments = locate(backbone)
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **arguments)
        config = AutoConfig.from_pretrained(where, **arguments)
        model = AutoModelForCausalLM.from_pretrained(
            where,
            config=set_dropout(config, dropout),
            # On a CPU the backward pass of torch's fused attention takes longer than eager's.
            attn_implementation="eager" if device.type == "cpu" else None,
            dtype=torch.bfloat16 if dtype == torch.bfloat16 else torch.float32,
            **arguments,
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CotoError(f"backbone = {where!r}: cannot be loaded ({reason})") from error
    _settle_special_tokens(tokenizer, model, where)
    model.config.use_cache = False  # training has no use for it; generation asks for it
    return Causal(model, tokenizer)


def _settle_special_tokens(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, where: str
) -> None:
    """Choose a padding token that is not EOS, and refuse what no text can be ended with."""
    if tokenizer.eos_token_id is None:
        raise CotoError(f"backbone = {where!r}: its tokenizer has no EOS token")
    if tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id:
        raise CotoError(
            f"backbone = {where!r}: its tokenizer ends every text with EOS, expected one that "
            "leaves a text open for its continuation"
        )
    ends = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in ends:
        vocabulary = tokenizer.get_vocab()
        # An unknown token never occurs where the vocabulary covers all bytes.
        for token in (tokenizer.unk_token, *_UNUSED):
            if token in vocabulary and vocabulary[token] not in ends:
                tokenizer.pad_token = token
                break
        else:
            tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
