"""Vision transformers of timm as image classifiers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.data.config import resolve_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers.modeling_outputs import ImageClassifierOutput

from coto.backbones.locate import locate
from coto.backbones.pixels import Pixels
from coto.backbones.qkv import split
from coto.backbones.stem import ConvStem
from coto.errors import CotoError

_CONFIG = {"architecture", "arguments", "stem", "mean", "std", "image_size", "channels"}


class ImageClassifier(nn.Module):
    """A vision transformer with a linear head on its pooled features.

    The head starts at zero: it says nothing about any class, in every arm and for every seed alike,
    and two seeds that are interpolated later have left the same point. (The adapters get their
    first gradient in the second step, through a head that has moved.)

    Args:
        vit: the backbone; its own head goes.
        classes: width of the head.
    """

    def __init__(self, vit: VisionTransformer, classes: int) -> None:
        super().__init__()
        # PEFT finds a head by the end of its name; the backbone's own would be taken for it.
        vit.head = nn.Identity()
        del vit.head
        self.vit = vit
        self.width = vit.num_features
        self.head = self._fresh_head(classes)

    def resize_head(self, classes: int) -> None:
        """Start a task of so many classes with a fresh head.

        A head that PEFT has wrapped is in training and stays.

        Raises:
            CotoError: if a head that stays has another width.
        """
        if isinstance(self.head, nn.Linear):
            self.head = self._fresh_head(classes)
            return
        (width,) = {m.out_features for m in self.head.modules() if isinstance(m, nn.Linear)}
        if width != classes:
            raise CotoError(f"head: {width} classes in training, expected the task's {classes}")

    def _fresh_head(self, classes: int) -> nn.Linear:
        head = nn.Linear(self.width, classes, device=next(self.vit.parameters()).device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Recompute every block in the backward pass, as timm does it: without reentrance.

        The HF Trainer calls this; what it passes to choose blocks has no effect here.
        """
        self.vit.set_grad_checkpointing(True)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        """Logits, and their cross-entropy if there are labels."""
        features = self.vit.forward_head(self.vit.forward_features(pixel_values), pre_logits=True)
        logits = self.head(features)
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


@dataclass(frozen=True)
class Loaded:
    """A classifier without adapters, and the images that it takes."""

    model: ImageClassifier
    pixels: Pixels


def load(
    backbone: Mapping[str, Any], device: torch.device, *, classes: int = 2, dropout: float = 0.0
) -> Loaded:
    """Load a pretrained vision transformer with separate projections and a fresh head.

    Args:
        backbone: settings (:class:`coto.config.definitions.Backbone`): a timm model by
            name, or a folder with ``config.json`` (:func:`build`) and ``model.safetensors``.
        device: where the model will compute; it is loaded to the CPU.
        classes: width of the head, until :meth:`ImageClassifier.resize_head`.
        dropout: probability of every dropout inside the backbone, while it trains.

    Raises:
        CotoError: if the model cannot be found, or is no plain vision transformer.
    """
    if backbone["timm"] is not None or backbone["hub"] is not None:
        vit, pixels = _from_hub(backbone)
    else:
        vit, pixels = _from_folder(Path(locate(backbone)[0]))
    split(vit)
    for module in vit.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        # On a CPU the backward pass of torch's fused attention takes longer than all the rest.
        if hasattr(module, "fused_attn") and device.type == "cpu":
            module.fused_attn = False  # type: ignore[assignment]
    return Loaded(ImageClassifier(vit, classes), pixels)


def build(config: Mapping[str, Any]) -> VisionTransformer:
    """An untrained backbone as a local folder's ``config.json`` describes it.

    Args:
        config: ``architecture`` (``"VisionTransformer"``); ``arguments``, keywords of timm's class;
            ``stem``, null or ``{"channels": [32, 64]}``, one stride-2 convolution each
            (:class:`coto.backbones.stem.ConvStem`); ``image_size`` in pixels; ``channels`` of the
            input; ``mean`` and ``std`` per channel, for the reader of images. Without
            ``num_classes`` among the arguments the model ends in its features.

    Raises:
        CotoError: if the description is incomplete, contradicts itself or is not understood.
    """
    if missing := sorted(_CONFIG - set(config)):
        raise CotoError(f"backbone config.json: expected the key {missing[0]!r}")
    if config["architecture"] != "VisionTransformer":
        raise CotoError(
            f"backbone config.json: architecture = {config['architecture']!r}: "
            "expected 'VisionTransformer'"
        )
    fixed: dict[str, Any] = {"img_size": config["image_size"], "in_chans": config["channels"]}
    if config["stem"] is not None:
        fixed["patch_size"] = 2 ** len(config["stem"]["channels"])
    arguments = {"num_classes": 0, **fixed, **config["arguments"]}
    for name, value in fixed.items():
        if arguments[name] != value:
            raise CotoError(
                f"backbone config.json: arguments.{name} = {arguments[name]}: expected {value}"
            )
    if config["stem"] is not None:
        arguments["embed_layer"] = partial(ConvStem, **config["stem"])
    try:
        return VisionTransformer(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise CotoError(f"backbone config.json: arguments: {error}") from None


def _from_folder(folder: Path) -> tuple[VisionTransformer, Pixels]:
    try:
        config = json.loads((folder / "config.json").read_text())
        weights = load_file(folder / "model.safetensors")
    # safetensors has an exception of its own for broken files, which is not a ValueError.
    except Exception as error:
        raise CotoError(f"backbone {str(folder)!r}: cannot be read ({error})") from None
    vit = build({**config, "arguments": {**config.get("arguments", {}), "num_classes": 0}})
    # The head of the pretraining is of no use to any task.
    weights = {name: w for name, w in weights.items() if not name.startswith("head.")}
    try:
        vit.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CotoError(f"backbone {str(folder)!r}: weights do not fit: {reason}") from None
    pixels = Pixels(
        config["image_size"], config["channels"], tuple(config["mean"]), tuple(config["std"])
    )
    return vit, pixels


def _from_hub(backbone: Mapping[str, Any]) -> tuple[VisionTransformer, Pixels]:
    """A model of timm's registry, or a hub repository of one, at a revision if one is given."""
    revision = f"@{backbone['revision']}" if backbone["revision"] is not None else ""
    overlay: dict[str, Any] = {}
    name = backbone["timm"]
    if name is None:
        name = f"hf-hub:{backbone['hub']}{revision}"
    elif revision and (known := timm.get_pretrained_cfg(name)) is not None:
        overlay["pretrained_cfg_overlay"] = {"hf_hub_id": f"{known.hf_hub_id}{revision}"}
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0, **overlay)
    # What is raised depends on what is wrong with the name, the network or the files; all are the
    # user's to mend and none is ours to debug.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CotoError(f"backbone = {name!r}: cannot be loaded ({reason})") from error
    if not isinstance(model, VisionTransformer):
        raise CotoError(
            f"backbone = {name!r}: is a {type(model).__name__}, expected a plain VisionTransformer"
        )
    data = resolve_data_config(model=model)
    channels, size, _ = data["input_size"]
    return model, Pixels(size, channels, data["mean"], data["std"], data["crop_pct"])
