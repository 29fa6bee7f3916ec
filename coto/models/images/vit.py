"""Vision transformers of timm as image classifiers."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.data.config import resolve_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers.modeling_outputs import ImageClassifierOutput

from coto.errors import CotoError
from coto.models.base import first_line, locate
from coto.models.images import heads
from coto.models.images.pictures import Pixels
from coto.models.settings import Backbone

_CONFIG = {"architecture", "arguments", "stem", "mean", "std", "image_size", "channels"}


class VitClassifier(nn.Module):
    """A vision transformer with a head on its pooled features (:mod:`coto.models.images.heads`).

    A linear head starts at zero: it says nothing about any class, in every arm and for every seed
    alike, and two seeds that are interpolated later have left the same point. (The adapters get
    their first gradient in the second step, through a head that has moved.) The backbone's own head
    goes.
    """

    head: nn.Module

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

        A head that PEFT has wrapped is in training and stays; CotoError if its width is another.
        """
        if isinstance(self.head, nn.Linear):
            self.head = self._fresh_head(classes)
            return
        (width,) = {m.out_features for m in self.head.modules() if isinstance(m, nn.Linear)}
        if width != classes:
            raise CotoError(f"head: {width} classes in training, expected the task's {classes}")

    def set_head(self, head: nn.Module) -> None:
        """Take another head, which stays as it is."""
        self.head = head.to(next(self.vit.parameters()).device)

    def features(self, pixel_values: Tensor) -> Tensor:
        """Pooled features, (batch, width)."""
        tokens = self.vit.forward_features(pixel_values)
        pooled: Tensor = self.vit.forward_head(tokens, pre_logits=True)
        return pooled

    def _fresh_head(self, classes: int) -> nn.Linear:
        return heads.zero_head(self.width, classes).to(next(self.vit.parameters()).device)

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Recompute every block in the backward pass, whatever blocks the HF Trainer asks for."""
        self.vit.set_grad_checkpointing(True)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        """Logits, and their cross-entropy if there are labels."""
        logits = self.head(self.features(pixel_values))
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def load(
    backbone: Backbone, device: torch.device, *, classes: int = 2, dropout: float = 0.0
) -> tuple[VitClassifier, Pixels]:
    """Load a vision transformer with separate projections and a fresh head, and its input.

    It is a timm model by name, or a folder with ``config.json`` (:func:`build`) and
    ``model.safetensors``; loaded to the CPU, though it will compute on `device`. Raises CotoError
    if the model cannot be found, or is no plain vision transformer.
    """
    if backbone.timm is not None or backbone.hub is not None:
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
    return VitClassifier(vit, classes), pixels


def build(config: Mapping[str, Any]) -> VisionTransformer:
    """An untrained backbone as a local folder's ``config.json`` describes it.

    Keys: ``architecture`` (``"VisionTransformer"``); ``arguments``, keywords of timm's class,
    without ``num_classes`` among them the model ends in its features; ``stem``, null or
    ``{"channels": [32, 64]}``, one stride-2 convolution each (:class:`ConvStem`); ``image_size`` in
    pixels; ``channels``, ``mean`` and ``std`` of the input. Raises CotoError if the description is
    incomplete, contradicts itself or is not understood.
    """
    if missing := sorted(_CONFIG - set(config)):
        raise CotoError(f"backbone config.json: expected the key {missing[0]!r}")
    if config["architecture"] != "VisionTransformer":
        wrong = f"architecture = {config['architecture']!r}: expected 'VisionTransformer'"
        raise CotoError(f"backbone config.json: {wrong}")
    fixed: dict[str, Any] = {"img_size": config["image_size"], "in_chans": config["channels"]}
    if config["stem"] is not None:
        fixed["patch_size"] = 2 ** len(config["stem"]["channels"])
    arguments = {"num_classes": 0, **fixed, **config["arguments"]}
    for name, value in fixed.items():
        if arguments[name] != value:
            wrong = f"arguments.{name} = {arguments[name]}: expected {value}"
            raise CotoError(f"backbone config.json: {wrong}")
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
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return vit, Pixels(config["image_size"], config["channels"], mean, std)


def _from_hub(backbone: Backbone) -> tuple[VisionTransformer, Pixels]:
    """A model of timm's registry, or a hub repository of one, at a revision if one is given."""
    revision = f"@{backbone.revision}" if backbone.revision is not None else ""
    overlay: dict[str, Any] = {}
    name = backbone.timm
    if name is None:
        name = f"hf-hub:{backbone.hub}{revision}"
    elif revision and (known := timm.get_pretrained_cfg(name)) is not None:
        overlay["pretrained_cfg_overlay"] = {"hf_hub_id": f"{known.hf_hub_id}{revision}"}
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0, **overlay)
    # What is raised depends on what is wrong with the name, the network or the files; all are the
    # user's to mend and none is ours to debug.
    except Exception as error:
        raise CotoError(f"backbone = {name!r}: cannot be loaded ({first_line(error)})") from error
    if not isinstance(model, VisionTransformer):
        wrong = f"is a {type(model).__name__}, expected a plain VisionTransformer"
        raise CotoError(f"backbone = {name!r}: {wrong}")
    data = resolve_data_config(model=model)
    channels, size, _ = data["input_size"]
    return model, Pixels(size, channels, data["mean"], data["std"], data["crop_pct"])


class SplitProjections(nn.Module):
    """Queries, keys and values from three layers in the place of one fused layer.

    Each holds a row block of its weight, and can have an adapter of its own.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        shape, has_bias = (fused.in_features, fused.out_features // 3), fused.bias is not None
        self.q, self.k, self.v = (nn.Linear(*shape, has_bias, device="meta") for _ in range(3))
        for name, whole in fused.named_parameters():
            for part, third in zip((self.q, self.k, self.v), whole.chunk(3), strict=True):
                setattr(part, name, nn.Parameter(third.detach().clone()))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (…, width) to queries, keys and values side by side, (…, 3 × width)."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def split(model: nn.Module) -> nn.Module:
    """Split each ``attn.qkv`` (:class:`SplitProjections`), in place; CotoError if there is none."""
    attentions = [m for m in model.modules() if isinstance(getattr(m, "qkv", None), nn.Linear)]
    if not attentions:
        expected = "expected a plain VisionTransformer of timm"
        raise CotoError(f"backbone {type(model).__name__}: has no fused attn.qkv, {expected}")
    for attention in attentions:
        attention.qkv = SplitProjections(attention.qkv)  # type: ignore[arg-type]
    return model


class ConvStem(nn.Module):
    """Stride-2 convolutions, then a 1×1 projection to the transformer's width.

    Early convolutions let a small transformer learn from thousands of steps instead of hundreds of
    thousands (Xiao et al., *Early Convolutions Help Transformers See Better*, 2021). Normalisation
    is over each image (one group), not over the batch: the stem stays frozen while adapters train,
    and running statistics would still move.

    Arguments are those of timm's patch embeddings, and the `channels` of each convolution in order;
    what else timm passes (`unused`) must be at its default. Raises ValueError if `patch_size` is
    not the total stride, 2 to the number of convolutions.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        *,
        channels: Sequence[int],
        bias: bool = True,
        **unused: Any,
    ) -> None:
        super().__init__()
        if patch_size != 2 ** len(channels):
            raise ValueError(f"patch_size = {patch_size}: expected {2 ** len(channels)}")
        if any(value for value in unused.values()):
            raise ValueError(f"{unused}: not supported by a convolutional stem")
        layers, widths = list[nn.Module](), (in_chans, *channels)
        for before, width in pairwise(widths):
            convolution = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.GroupNorm(1, width), nn.GELU()]
        self.convolutions = nn.Sequential(*layers)
        self.proj = nn.Conv2d(widths[-1], embed_dim, 1, bias=bias)
        side = -(-img_size // patch_size)  # a padded stride-2 convolution rounds up, each time
        sizes = (img_size, patch_size, side)
        self.img_size, self.patch_size, self.grid_size = ((size, size) for size in sizes)
        self.num_patches = side * side

    def feat_ratio(self) -> int:
        """Pixels per token along a side."""
        return self.patch_size[0]

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, side, side) to tokens (batch, tokens, width)."""
        tokens: Tensor = self.proj(self.convolutions(x))
        return tokens.flatten(2).transpose(1, 2)
