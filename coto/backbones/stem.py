"""A small convolutional stem in the place of a vision transformer's patch embedding."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class ConvStem(nn.Module):
    """Stride-2 convolutions, then a 1×1 projection to the transformer's width.

    Early convolutions let a small transformer learn from thousands of steps instead of hundreds of
    thousands (Xiao et al., *Early Convolutions Help Transformers See Better*, 2021). Normalisation
    is over each image (one group), not over the batch: the stem stays frozen while adapters train,
    and running statistics would still move.

    Args:
        img_size: side of the square input, in pixels.
        patch_size: total stride, 2 to the number of convolutions.
        in_chans: channels of the input.
        embed_dim: width of the transformer.
        channels: channels of each stride-2 convolution, in order.
        bias: whether the projection has a bias.
        **unused: what timm passes to every patch embedding, at its default.

    Raises:
        ValueError: if `patch_size` is not the total stride.
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
        layers: list[nn.Module] = []
        before = in_chans
        for width in channels:
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(1, width),
                nn.GELU(),
            ]
            before = width
        self.convolutions = nn.Sequential(*layers)
        self.proj = nn.Conv2d(before, embed_dim, 1, bias=bias)
        side = -(-img_size // patch_size)  # a padded stride-2 convolution rounds up, each time
        self.img_size = (img_size, img_size)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (side, side)
        self.num_patches = side * side

    def feat_ratio(self) -> int:
        """Pixels per token along a side."""
        return self.patch_size[0]

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, side, side) to tokens (batch, tokens, width)."""
        tokens: Tensor = self.proj(self.convolutions(x))
        return tokens.flatten(2).transpose(1, 2)
