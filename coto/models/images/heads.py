"""What a vision transformer's pooled features are told apart by."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from coto.errors import CotoError


def zero_head(width: int, classes: int) -> nn.Linear:
    """A layer that says nothing about any class, to be trained."""
    head = nn.Linear(width, classes)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def frozen_head(width: int, classes: int) -> nn.Linear:
    """A layer that stays as it is: orthonormal directions, as many as there are.

    One of zeros would never let a gradient through. It is the same for every seed, so that runs
    differ in their adapters alone.
    """
    head = zero_head(width, classes)
    nn.init.orthogonal_(head.weight, generator=torch.Generator().manual_seed(0))
    return head


class CosineHead(nn.Module):
    """Scaled cosines of features and class prototypes, as CLIP has them of its class prompts.

    Prototypes are the means of the classes' centred features of length 1 (cosine variant of
    Snell, Swersky, Zemel, *Prototypical Networks for Few-shot Learning*, 2017). Nothing in it is
    trained.

    Arguments are features of labelled examples, (examples, width) and (examples,), and the factor
    of the cosines. CotoError if a class has no example.
    """

    centre: Tensor
    prototypes: Tensor

    def __init__(self, features: Tensor, labels: Tensor, classes: int, scale: float) -> None:
        super().__init__()
        if missing := sorted(set(range(classes)) - set(labels.tolist())):
            raise CotoError(f"head prototypes: class {missing[0]} has no example, expected some")
        centre = features.mean(0)
        unit = normalize(features - centre, dim=-1)
        means = torch.stack([unit[labels == label].mean(0) for label in range(classes)])
        # No part of a saved model: whoever loads the adapter makes it anew of the same examples.
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("prototypes", normalize(means, dim=-1), persistent=False)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch, classes) of pooled features (batch, width)."""
        return self.scale * normalize(features - self.centre, dim=-1) @ self.prototypes.T
