"""Image classifiers: vision transformers, and CLIP as CLIP-LoRA does (Zanella, Ben Ayed, 2024)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextConfig
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from coto.errors import CotoError
from coto.models.base import HeadInput, Scores, TaskModel, TrainingSet, load_pretrained
from coto.models.images import heads, pictures, vit
from coto.models.scoring import scored
from coto.models.settings import Backbone, Loading
from coto.tasks.images import ImageTask
from coto.tasks.task import Task

LOGIT_SCALE = 100.0
"""Fixed, as in CLIP-LoRA; it is also what OpenAI's models have learned."""


class ClipClassifier(nn.Module):
    """CLIP that tells classes by the similarity of an image to each class's prompt; no head trains.

    Every training step encodes all prompts anew, so that adapters of the text encoder learn too.
    """

    def __init__(self, clip: CLIPModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.clip = clip
        self._tokenizer = tokenizer
        self._fixed: Tensor | None = None
        self.register_buffer("prompts", torch.zeros(0, 1, dtype=torch.long), persistent=False)

    def set_classes(self, names: Sequence[str], prompt: str) -> None:
        """Take a task's classes, in the logits' order; ``{}`` in `prompt` stands for the name."""
        if prompt.count("{}") != 1:
            raise CotoError(f"prompt = {prompt!r}: expected one {{}} for the name of the class")
        sentences = [prompt.replace("{}", name.replace("_", " ")) for name in names]
        # Attention is causal and the end token is read out: padding, to the longest prompt or to
        # all 77 tokens, changes nothing but the time.
        text = self.clip.config.text_config
        assert isinstance(text, CLIPTextConfig)
        limits = {"padding": True, "truncation": True, "max_length": text.max_position_embeddings}
        tokens = self._tokenizer(sentences, return_tensors="pt", **limits)
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

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Recompute blocks in the backward pass; without reentrance by default."""
        given = options.pop("activation_checkpointing_kwargs", None) or {}
        self.clip.activation_checkpointing_enable({"use_reentrant": False, **given}, **options)

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


def load_clip(
    backbone: Backbone, device: torch.device, *, dropout: float = 0.0
) -> tuple[ClipClassifier, pictures.Pixels]:
    """A pretrained CLIP (:func:`coto.models.base.load_pretrained`) and the images that it takes."""
    clip, tokenizer, _ = load_pretrained(CLIPModel, backbone, device, dropout)
    vision = clip.config.vision_config
    mean, std = tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)
    pixels = pictures.Pixels(vision.image_size, vision.num_channels, mean, std)
    return ClipClassifier(clip, tokenizer), pixels


class ImageClassifier(TaskModel):
    """A vision transformer or CLIP; the seed is that of the random views that training sees."""

    def _load(self, loading: Loading) -> None:
        is_clip, dropout = loading.backbone.family == "clip", self._train.backbone_dropout
        load: Callable[..., tuple[nn.Module, pictures.Pixels]] = load_clip if is_clip else vit.load
        self.model, pixels = load(loading.backbone, self._compute.device, dropout=dropout)
        self._head, self._logit_scale = loading.head, loading.logit_scale
        self.heads = ("head",) if self._head == "linear" and not is_clip else ()
        self._cosine_heads: dict[str, heads.CosineHead] = {}
        self._pictures = pictures.Pictures(pixels)

    def set_task(
        self, task: Task, rows: pd.DataFrame, prototypes: pd.DataFrame | None = None
    ) -> None:
        """A head as the settings say, as wide as the task has classes; or prompts of its classes.

        A head of prototypes is made while the backbone is still as it was pretrained, and kept.
        """
        assert isinstance(task, ImageTask)
        names = pictures.class_names(task, rows)
        if isinstance(self.model, ClipClassifier):
            self.model.set_classes(names, task.prompt)
        elif isinstance(self.model, vit.VitClassifier):
            if self._head == "linear":
                self.model.resize_head(len(names))
            elif self._head == "frozen":
                self.model.set_head(heads.frozen_head(self.model.width, len(names)))
            else:
                self.model.set_head(self._cosine_head(self.model, task, len(names), prototypes))

    def _cosine_head(
        self, model: vit.VitClassifier, task: Task, classes: int, rows: pd.DataFrame | None
    ) -> heads.CosineHead:
        if task.name not in self._cosine_heads:
            assert rows is not None
            assert self._logit_scale is not None
            labels = torch.from_numpy(pictures.class_numbers(task, rows))
            # In fp32 everywhere: training and all evaluations are to have the same head.
            with torch.inference_mode():
                batches = [model.eval().features(batch) for batch in self._batches(task, rows)]
            features = torch.cat(batches).float().cpu().clone()
            head = heads.CosineHead(features, labels, classes, self._logit_scale)
            self._cosine_heads[task.name] = head
        return self._cosine_heads[task.name]

    def training_set(self, task: Task, rows: pd.DataFrame) -> TrainingSet:
        """Images, each in a new random view in every pass, if the settings say so."""
        views = self._train.augmentation
        images = pictures.TrainingImages(task, rows, self._pictures, views, self._seed)
        summary = {
            "augmentation": views,
            "classes": len(pictures.class_names(task, rows)),
            "short_classes": rows.attrs.get("short_classes", []),
        }
        return TrainingSet(
            images, images.collate, len(images), callbacks=(images.callback,), summary=summary
        )

    def score(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> list[Scores]:
        """Top-1 accuracy on these rows."""
        labels, names = pictures.class_numbers(task, rows), pictures.class_names(task, rows)
        logits = self._predict(model, task, rows)
        return [scored(task, rows, logits, labels, len(names), "images")]

    def features(self, task: Task, rows: pd.DataFrame) -> np.ndarray:
        """Pooled features before the head, or CLIP's projection, (rows, dimensions), fp32."""
        is_clip = isinstance(self.model, ClipClassifier)
        head = self.model.get_submodule("clip.visual_projection" if is_clip else "head")
        reader = HeadInput(self.model, head)
        try:
            return self._predict(reader, task, rows)
        finally:
            reader.remove()

    def _predict(self, model: nn.Module, task: Task, rows: pd.DataFrame) -> np.ndarray:
        """Logits of every row, (rows, classes), fp32, in the order given."""
        model.eval()
        logits: list[Tensor] = []
        # Inside a PEFT model it is this very model that computes, adapters and all.
        prompts = getattr(self.model, "fixed_text", nullcontext)()
        # One autocast for all batches: it casts every weight once and keeps the result.
        with torch.inference_mode(), self._compute.autocast(), prompts:
            for batch in self._batches(task, rows):
                logits.append(model(pixel_values=batch).logits.float().cpu())
        return torch.cat(logits).numpy()

    def _batches(self, task: Task, rows: pd.DataFrame) -> Iterator[Tensor]:
        """The evaluation's views of all images, in order, on the device."""
        contents, names = rows["image"].tolist(), pictures.image_names(task, rows)
        for start in range(0, len(rows), self._evaluation.batch_images):
            batch = range(len(rows))[start : start + self._evaluation.batch_images]
            images = [self._pictures.read(contents[i], names[i], "fitted") for i in batch]
            inputs = self._pictures.pixels.normalise(torch.stack(images))
            yield inputs.to(self._compute.device)
