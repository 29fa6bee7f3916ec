"""The last block of a transformer, computed only at the tokens that are read.

Keys and values are those of all tokens; queries, the attention's output and the MLP are those of
the tokens that the head or the loss reads. Nobody reads the others, so that losses and gradients
are the same. A function here takes the place of the block's ``forward``; it calls the modules
inside, with their adapters, as always.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from coto.fast.answers import SPREAD, TOKENS, answers_only


class LastBlock(NamedTuple):
    """The last block of an encoder or decoder, and how it is computed at some tokens."""

    block: nn.Module
    forward: Callable[..., Tensor]
    model: nn.Module  # the encoder or decoder
    told: bool = False  # which tokens are read depends on the batch; else it is the first one


def last_blocks(model: nn.Module) -> list[LastBlock]:
    """The last blocks of a model without adapters: of which we know the tokens that are read.

    None that draws random numbers is among them: with dropout the same seed would draw others.
    """
    find = _FIND.get(type(model).__name__)
    known = [] if find is None else find(model)
    return [one for one in known if _is_exact(one)]


@contextmanager
def narrowed(model: nn.Module, blocks: list[LastBlock]) -> Iterator[None]:
    """Compute blocks of :func:`last_blocks` only at the tokens that are read, inside.

    `model` is what is called with a batch.
    """
    with ExitStack() as stack:
        for block, forward, inner, told in blocks:
            stack.enter_context(_computed_by(block, forward))
            if told and hasattr(inner, "eos_token_id"):
                stack.enter_context(_told_ends(inner))
            elif told:
                stack.enter_context(answers_only(model, TOKENS))
        yield


@contextmanager
def _computed_by(block: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    plain = type(block)
    # A class of its own, and not a function at the instance, which would not follow to a copy.
    block.__class__ = type(plain.__name__, (plain,), {"forward": forward})
    try:
        yield
    finally:
        block.__class__ = plain


@contextmanager
def _told_ends(text_model: nn.Module) -> Iterator[None]:
    """Tell CLIP's text encoder, inside, where each prompt ends: it is read there only."""

    def tell(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        ids, end = given["input_ids"], text_model.eos_token_id
        # As in transformers: early checkpoints name another token as the end, which has the
        # highest number.
        ends = (ids if end == 2 else (ids == end).int()).argmax(dim=-1, keepdim=True)
        return args, {**given, TOKENS: ends, SPREAD: True}

    handle = text_model.register_forward_pre_hook(tell, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _is_exact(one: LastBlock) -> bool:
    rates = [0.0]
    if isinstance(one.model, PreTrainedModel):
        if one.model.config._attn_implementation not in ("eager", "sdpa"):
            return False
        rates.append(getattr(one.model.config, "attention_dropout", 0.0))
    for module in one.block.modules():
        rates.append(module.p if isinstance(module, nn.Dropout) else 0.0)
        rates.append(getattr(module, "drop_prob", None) or 0.0)
    return not any(rates)


# --- one function for each kind of block -------------------------------------------------------


def _heads(x: Tensor, size: int) -> Tensor:
    """Heads of `size` numbers: (rows, tokens, width) to (rows, heads, tokens, size)."""
    return x.unflatten(-1, (-1, size)).transpose(1, 2)


def _at(x: Tensor, tokens: Tensor) -> Tensor:
    """Some tokens of each row: (rows, count, width) of (rows or 1, all tokens, width)."""
    return torch.take_along_dim(x.expand(len(tokens), -1, -1), tokens[..., None], dim=1)


def _attend(
    attention: Any,
    eager: Callable[..., Any],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Any,
    scale: Any,
) -> Tensor:
    """Attention as the model's configuration says: (rows, tokens of `q`, width)."""
    kind = attention.config._attn_implementation
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(kind, eager)
    # The mask says it all, and the causal one of some other shape would be wrong.
    mixed, _ = attend(attention, q, k, v, mask, scaling=scale, dropout=0.0, is_causal=False)
    return mixed.flatten(2)


def _bert(
    self: Any, hidden_states: Tensor, attention_mask: Any = None, *_: Any, **__: Any
) -> Tensor:
    """BertLayer and RobertaLayer, at the first token."""
    from transformers.models.bert.modeling_bert import eager_attention_forward as eager

    inner, first = self.attention.self, hidden_states[:, :1]
    size = inner.attention_head_size
    q = _heads(inner.query(first), size)
    k, v = (_heads(product(hidden_states), size) for product in (inner.key, inner.value))
    mask = None if attention_mask is None else attention_mask[:, :, :1]
    mixed = _attend(inner, eager, q, k, v, mask, inner.scaling)
    return self.feed_forward_chunk(self.attention.output(mixed, first))


def _vit(self: Any, x: Tensor, attn_mask: Any = None, is_causal: bool = False) -> Tensor:
    """Block of timm, at the first token."""
    attention, first, normed = self.attn, x[:, :1], self.norm1(x)
    qkv = attention.qkv
    q, k, v = (
        _heads(product(read), attention.head_dim)
        for product, read in ((qkv.q, normed[:, :1]), (qkv.k, normed), (qkv.v, normed))
    )
    q, k = attention.q_norm(q), attention.k_norm(k)
    if attention.fused_attn:
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
    else:
        mixed = (q * attention.scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v
    mixed = attention.norm(mixed.transpose(1, 2).flatten(2))
    x = first + self.ls1(attention.proj(mixed))
    return x + self.ls2(self.mlp(self.norm2(x)))


def _clip(self: Any, hidden_states: Tensor, attention_mask: Any = None, **told: Any) -> Tensor:
    """CLIPEncoderLayer: the first patch token of an image, the end of a text."""
    from transformers.models.clip.modeling_clip import eager_attention_forward as eager

    attention, tokens = self.self_attn, told.get(TOKENS)
    normed = self.layer_norm1(hidden_states)
    if tokens is None:
        read, asking, mask = hidden_states[:, :1], normed[:, :1], attention_mask
    else:
        read, asking = _at(hidden_states, tokens), _at(normed, tokens)
        mask = _mask_rows(attention_mask, tokens, hidden_states)
    q = _heads(attention.q_proj(asking), attention.head_dim)
    k, v = (
        _heads(product(normed), attention.head_dim)
        for product in (attention.k_proj, attention.v_proj)
    )
    mixed = _attend(attention, eager, q, k, v, mask, attention.scale)
    x = read + attention.out_proj(mixed)
    x = x + self.mlp(self.layer_norm2(x))
    return x.expand_as(hidden_states) if told.get(SPREAD) else x


def _llama(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Any = None,
    position_embeddings: Any = None,
    **told: Any,
) -> Tensor:
    """LlamaDecoderLayer, at the tokens that it is told; without them it computes all."""
    from transformers.models.llama import modeling_llama as llama

    tokens, attention = told.get(TOKENS), self.self_attn
    if tokens is None:
        given = {**told, "position_embeddings": position_embeddings}
        return llama.LlamaDecoderLayer.forward(self, hidden_states, attention_mask, **given)
    read, normed = _at(hidden_states, tokens), self.input_layernorm(hidden_states)
    size, (cosines, sines) = attention.head_dim, position_embeddings
    q = _heads(attention.q_proj(_at(normed, tokens)), size)
    k, v = (_heads(product(normed), size) for product in (attention.k_proj, attention.v_proj))
    # It turns queries and keys at once; ours stand at different tokens.
    q, _ = llama.apply_rotary_pos_emb(q, q[:, :1], _at(cosines, tokens), _at(sines, tokens))
    _, k = llama.apply_rotary_pos_emb(k[:, :1], k, cosines, sines)
    mask = _mask_rows(attention_mask, tokens, hidden_states)
    mixed = _attend(attention, llama.eager_attention_forward, q, k, v, mask, attention.scaling)
    x = read + attention.o_proj(mixed)
    x = x + self.mlp(self.post_attention_layernorm(x))
    return x.expand_as(hidden_states) if told.get(SPREAD) else x


def _mask_rows(mask: Tensor | None, tokens: Tensor, hidden: Tensor) -> Tensor:
    """Rows of a causal mask at some tokens: (rows, 1, count, all tokens)."""
    if mask is None:  # scaled_dot_product_attention needs none if no token is padding
        everything = torch.arange(hidden.shape[1], device=hidden.device)
        return everything <= tokens[:, None, :, None]
    return _at(mask.expand(len(tokens), -1, -1, -1)[:, 0], tokens)[:, None]


def _find_vit(model: Any) -> list[LastBlock]:
    vit = model.vit
    block, attention = vit.blocks[-1], getattr(vit.blocks[-1], "attn", None)
    pools_first = vit.global_pool == "token" and vit.attn_pool is None
    names = (type(block).__name__, type(attention).__name__)
    plain = names == ("Block", "Attention") and getattr(attention, "gate", None) is None
    return [LastBlock(block, _vit, vit)] if pools_first and plain else []


def _find_clip(model: Any) -> list[LastBlock]:
    images, texts = model.clip.vision_model, model.clip.text_model
    return [
        LastBlock(images.encoder.layers[-1], _clip, images),
        LastBlock(texts.encoder.layers[-1], _clip, texts, told=True),
    ]


def _find_bert(model: Any) -> list[LastBlock]:
    bert = model.base_model
    return [] if bert.config.is_decoder else [LastBlock(bert.encoder.layer[-1], _bert, bert)]


def _find_llama(model: Any) -> list[LastBlock]:
    return [LastBlock(model.model.layers[-1], _llama, model.model, told=True)]


_FIND: dict[str, Callable[[Any], list[LastBlock]]] = {
    "BertForSequenceClassification": _find_bert,
    "RobertaForSequenceClassification": _find_bert,
    "LlamaForCausalLM": _find_llama,
    "VitClassifier": _find_vit,
    "ClipClassifier": _find_clip,
}
