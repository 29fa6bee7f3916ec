"""A random language model of a few thousand parameters, with a tokenizer of its own."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from coto.models.causal.loading import Causal
from coto.models.causal.loading import load as load_causal
from coto.models.settings import NamedBackbone
from coto.tasks.language import prompt, target

TEXTS = ("red", "the dog runs", "a very long walk home", "why?", "numbers 1 2 3 4 5 and more words")


def rows(count: int = 12, name: str = "openbookqa", choices: int = 4) -> pd.DataFrame:
    """Questions with answers in turn, of several lengths."""
    answers = [f"answer{i + 1}" for i in range(choices)]
    return pd.DataFrame(
        {
            "set": name,
            "instruction": [f"{TEXTS[i % 5]} {i} " + "word " * (i % 7) for i in range(count)],
            "choices": [answers] * count,
            "answer": [answers[i % choices] for i in range(count)],
            "idx": range(count),
        }
    )


def single_tokens(causal: Causal, count: int) -> list[str]:
    """Words that, after a colon, are one token each, their blank among it or left out."""
    known = {"1", "2", "3", "4", "5", "a", "w", "the", "answer", "dog", "n", "l"}
    prompts = ["why?:"] * len(known)
    whole, ends = causal.encode_pairs(prompts, [f" {word}" for word in sorted(known)])
    pairs = zip(sorted(known), whole, ends, strict=True)
    found = [word for word, ids, end in pairs if len(ids) == end + 1]
    assert len(found) >= count
    return found[:count]


def save(folder: Path, *, bos: bool = True, pad: str | None = None, **config: Any) -> Path:
    """Write a model and its tokenizer, as a checkpoint of the hub has them."""
    answers = [target(f"answer{i}", "openbookqa") for i in range(1, 6)]
    texts = [prompt(text) + answer for text in TEXTS for answer in answers]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token=pad,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.4,  # so that its answers differ
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }
    LlamaForCausalLM(LlamaConfig(**{**settings, **config})).save_pretrained(folder)
    return folder


def backbone(folder: Path) -> NamedBackbone:
    """A backbone in a folder."""
    return NamedBackbone(name="small", family="causal", path=str(folder))


def load(folder: Path) -> Causal:
    """The model in fp32, ready to be scored."""
    loaded = load_causal(backbone(folder), torch.device("cpu"))
    loaded.model.eval()
    return loaded
