"""Where a job computes, and in which precision."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from coto.errors import CotoError


@dataclass(frozen=True)
class Compute:
    """A device with the precision of its matrix products."""

    device: torch.device
    bf16: bool

    @property
    def name(self) -> str:
        """The device as a person knows it."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return "CPU"

    def describe(self, threads: int) -> dict[str, Any]:
        """What a record says about where and how a job computed."""
        return {
            "device": self.name,
            "precision": "bf16" if self.bf16 else "fp32",
            "threads": threads,
        }

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision where asked for; weights stay in fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def resolve(device: str, precision: str) -> Compute:
    """Turn the config's ``device`` and ``precision`` into what this machine has.

    Raises:
        CotoError: if ``cuda`` is asked for and no GPU is visible.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise CotoError("device = 'cuda': expected a visible GPU; use 'auto' or 'cpu' without one")
    where = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    bf16 = _has_bf16(where) if precision == "auto" else precision == "bf16"
    return Compute(torch.device(where), bf16)


def _has_bf16(device: str) -> bool:
    """Whether bf16 products are faster than fp32 here, not merely emulated."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
