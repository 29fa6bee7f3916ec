"""Where a job computes, and in which precision."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from coto.errors import CotoError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device with the precision of its matrix products."""

    device: torch.device
    dtype: torch.dtype = torch.float32  # or a half precision that autocast uses

    @property
    def name(self) -> str:
        """The device as a person knows it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"

    def describe(self, threads: int) -> dict[str, Any]:
        """What a record says about where and how a job computed."""
        precision = next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)
        return {"device": self.name, "precision": precision, "threads": threads}

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision where asked for; weights stay in fp32."""
        half = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if half else None, enabled=half)


def resolve(device: str, precision: str) -> Compute:
    """Turn the config's values into what this machine has; CotoError if it lacks the GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise CotoError("device = 'cuda': expected a visible GPU; use 'auto' or 'cpu' without one")
    where = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "fp16" and where == "cpu":
        raise CotoError("precision = 'fp16': expected a GPU; use 'auto', 'fp32' or 'bf16' on a CPU")
    if precision == "auto":
        # bf16 where its products are faster, not merely emulated. With AVX-512's bf16 instructions
        # alone, casting costs more than the products save.
        if where == "cuda":
            fast = torch.cuda.get_device_capability() >= (8, 0)
        else:
            fast = torch.cpu._is_amx_tile_supported()
        precision = "bf16" if fast else "fp32"
    return Compute(torch.device(where), _DTYPES[precision])
