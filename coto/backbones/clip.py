"""CLIP as a few-shot classifier, in the protocol of CLIP-LoRA (Zanella and Ben Ayed, 2024)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)
from transformers import logging as transformers_logging
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from coto.backbones.locate import locate, set_dropout
from coto.backbones.pixels import Pixels
from coto.errors import CotoError

LOGIT_SCALE = 100.0
"""Fixed, as in CLIP-LoRA; it is also what OpenAI's models have learned."""


class ClipClassifier(nn.Module):
    """CLIP that tells classes by the similarity of an image to each class's prompt.

    Every training step encodes all prompts anew, with gradients, so that adapters of the text
    encoder learn as well. There is no head: only adapters train.

    Args:
        clip: both encoders.
        tokenizer: of the text encoder.
    """

    def __init__(self, clip: CLIPModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.clip = clip
        self._tokenizer = tokenizer
        self._fixed: Tensor | None = None
        self.register_buffer("prompts", torch.zeros(0, 1, dtype=torch.long), persistent=False)

    def set_classes(self, names: Sequence[str], prompt: str) -> None:
        """Take the classes of a task; their order is that of the logits.

        Args:
            names: of the classes; an underscore reads as a space.
            prompt: sentence with ``{}`` in the place of the name.
        """
        if prompt.count("{}") != 1:
            raise CotoError(f"prompt = {prompt!r}: expected one {{}} for the name of the class")
        sentences = [prompt.replace("{}", name.replace("_", " ")) for name in names]
        # Attention is causal and the end token is read out: padding, to the longest prompt or to
        # all 77 tokens, changes nothing but the time.
        text = self.clip.config.text_config
        assert isinstance(text, CLIPTextConfig)
        tokens = self._tokenizer(
            sentences,
            padding=True,
            truncation=True,
            max_length=text.max_position_embeddings,
            return_tensors="pt",
        )
        self.prompts = tokens["input_ids"].to(self.clip.logit_scale.device)

    def text_features(self) -> Tensor:
        """Unit vectors of the classes, (classes, dimensions)."""
        features = self.clip.get_text_features(input_ids=self.prompts).pooler_output
        return nn.functional.normalize(features, dim=-1)

    @contextmanager
    def fixed_text(self) -> Iterator[None]:
        """Encode the prompts once for all batches inside, while no weight changes."""
        self._fixed = self.text_features()
        try:
            yield
        finally:
            self._fixed = None

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Recompute blocks in the backward pass; without reentrance unless told otherwise."""
        self.clip.activation_checkpointing_enable(
            {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}, **options
        )

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        """Scaled cosines of images and classes, and their cross-entropy if there are labels."""
        if not len(self.prompts):
            raise CotoError("CLIP: has no classes, expected set_classes to be called first")
        features = self.clip.get_image_features(pixel_values=pixel_values).pooler_output
        images = nn.functional.normalize(features, dim=-1)
        texts = self.text_features() if self._fixed is None else self._fixed
        logits = LOGIT_SCALE * images @ texts.T
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


@dataclass(frozen=True)
class Loaded:
    """A classifier without adapters, and the images that it takes."""

    model: ClipClassifier
    pixels: Pixels


def load(backbone: Mapping[str, Any], device: torch.device, *, dropout: float = 0.0) -> Loaded:
    """Load a pretrained CLIP.

    Args:
        backbone: settings (:class:`coto.config.definitions.Backbone`).
        device: where the model will compute; it is loaded to the CPU.
        dropout: probability of the dropout of attention, CLIP's only one, while it trains.

    Raises:
        CotoError: if the model cannot be found.
    """
    where, arguments = locate(backbone)
    transformers_logging.disable_progress_bar()
    try:
        config = CLIPConfig.from_pretrained(where, **arguments)
        text, vision = config.text_config, config.vision_config
        assert isinstance(text, CLIPTextConfig)
        assert isinstance(vision, CLIPVisionConfig)
        set_dropout(text, dropout)
        set_dropout(vision, dropout)
        tokenizer = AutoTokenizer.from_pretrained(where, **arguments)
        clip = CLIPModel.from_pretrained(
            where,
            config=config,
            # On a CPU the backward pass of torch's fused attention takes longer than all the rest.
            attn_implementation="eager" if device.type == "cpu" else None,
            dtype=torch.float32,
            **arguments,
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CotoError(f"backbone = {where!r}: cannot be loaded ({reason})") from error
    assert isinstance(vision.image_size, int)
    pixels = Pixels(
        vision.image_size, vision.num_channels, tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)
    )
    return Loaded(ClipClassifier(clip, tokenizer), pixels)
