"""Language models: logits and loss only where there is an answer."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

IGNORED = -100  # a label that the loss does not count
TOKENS = "read_tokens"
"""Keyword by which a last block is told the tokens that are read, (rows, count)."""
SPREAD = "spread_token"
"""Keyword that says that one token is read, which shall be found at every place."""


class Read(NamedTuple):
    """Tokens of each row whose logits the loss reads, and what is to follow them."""

    positions: Tensor  # (rows, count), in ascending order but for those that are not counted
    labels: Tensor  # (rows, count), IGNORED where a row reads fewer than the others


def read(labels: Tensor, width: int) -> Read:
    """The tokens that a language model's loss reads.

    Labels, (rows, tokens), are those of the last tokens of rows that are `width` long; the logits
    at a token predict the next one.
    """
    following = labels[:, 1:]
    counted = following != IGNORED
    count = int(counted.sum(1).max())
    first = counted.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
    return Read(first + width - labels.shape[1], following.gather(1, first))


def reads_answers(model: nn.Module) -> bool:
    """Whether a language model can leave out logits, and takes what its loss shall compare."""
    parameters = inspect.signature(model.forward).parameters.values()
    names = {parameter.name for parameter in parameters}
    passes_on = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
    causal = getattr(model, "loss_type", None) == "ForCausalLM"
    return causal and passes_on and "logits_to_keep" in names


@contextmanager
def answers_only(model: nn.Module, keyword: str) -> Iterator[None]:
    """Have a language model compute, inside, only the logits that have a label.

    The vocabulary is large and answers are short. The model gets the tokens as `keyword`:
    ``logits_to_keep``, or what its last block is told by (:mod:`coto.fast.last_block`). Batches
    with ``candidates`` for the answer, whose logits alone are computed anyway, concern the last
    block only; their loss looks for the prompt's last token itself.
    """

    def narrow(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        labels, ids = given.get("labels"), given.get("input_ids")
        if labels is None or ids is None or not (labels[:, 1:] != IGNORED).any():
            return None
        if "candidates" in given:
            if keyword != TOKENS:
                return None
            ends = given["attention_mask"].sum(dim=1, keepdim=True) - 1
            return args, {**given, TOKENS: ends, SPREAD: True}
        tokens = read(labels, ids.shape[1])
        # Without labels to shift the loss would look for the next token's again.
        told = {"labels": tokens.labels, "shift_labels": tokens.labels}
        return args, {**given, "logits_to_keep": 0, **told, keyword: tokens.positions}

    handle = model.register_forward_pre_hook(narrow, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
