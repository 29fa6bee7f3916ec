"""Fused projections of queries, keys and values as three layers, and back."""

import torch
from torch import Tensor, nn

from coto.errors import CotoError


class SplitProjections(nn.Module):
    """Queries, keys and values from three layers in the place of one fused layer.

    The layers compute what the fused one computes, row block by row block of its weight, and each
    can have an adapter that is trained, switched and pruned alone.

    Args:
        fused: layer whose outputs are queries, keys and values, a third each.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        biases = fused.bias.chunk(3) if fused.bias is not None else (None, None, None)
        parts = []
        for weight, bias in zip(fused.weight.chunk(3), biases, strict=True):
            part = nn.Linear(fused.in_features, len(weight), bias=False, device="meta")
            part.weight = nn.Parameter(weight.detach().clone())
            part.bias = None if bias is None else nn.Parameter(bias.detach().clone())
            parts.append(part)
        self.q, self.k, self.v = parts

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (…, width) to queries, keys and values side by side, (…, 3 × width)."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)

    def fused(self) -> nn.Linear:
        """One layer with the three layers' weights."""
        parts = [self.q, self.k, self.v]
        weight = torch.cat([part.weight.detach() for part in parts])
        layer = nn.Linear(weight.shape[1], len(weight), bias=False, device="meta")
        layer.weight = nn.Parameter(weight)
        if self.q.bias is not None:
            layer.bias = nn.Parameter(torch.cat([part.bias.detach() for part in parts]))
        return layer


def split(model: nn.Module) -> nn.Module:
    """Replace every block's ``attn.qkv`` by :class:`SplitProjections`, in place.

    Raises:
        CotoError: if the model has no such layer.
    """
    attentions = [m for m in model.modules() if isinstance(getattr(m, "qkv", None), nn.Linear)]
    if not attentions:
        raise CotoError(
            f"backbone {type(model).__name__}: has no fused attn.qkv, expected a plain "
            "VisionTransformer of timm"
        )
    for attention in attentions:
        attention.qkv = SplitProjections(attention.qkv)  # type: ignore[arg-type]
    return model


def fuse(model: nn.Module) -> nn.Module:
    """Undo :func:`split`, in place: the model has timm's parameters again, to be saved or served.

    Adapters must have been merged into the weights before, or removed.
    """
    for module in list(model.modules()):
        if isinstance(getattr(module, "qkv", None), SplitProjections):
            module.qkv = module.qkv.fused()  # type: ignore[operator,union-attr]
    return model
