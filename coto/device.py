"""Where a job computes, and in which precision."""

import json
import logging
import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch.nn.functional import linear

from coto import record
from coto.errors import CotoError

log = logging.getLogger(__name__)

BF16_ON_CPU = True
"""Whether ``auto`` may choose bf16 on a CPU; docs/performance.md says how equal its scores are."""
_FASTER = 1.3  # times that bf16 products must be faster than fp32 to be worth their rounding
_TOKENS, _WIDEST = 256, 512  # of the products that are timed; wider ones take longer, not better
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device with the precision of its matrix products."""

    device: torch.device
    dtype: torch.dtype = torch.float32  # or a half precision that autocast uses
    speedup: float | None = None  # of bf16 over fp32 products, where `auto` has measured it

    @property
    def name(self) -> str:
        """The device as a person knows it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"

    def describe(self, threads: int) -> dict[str, Any]:
        """What a record says about where and how a job computed."""
        precision = next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)
        described = {"device": self.name, "precision": precision, "threads": threads}
        return described if self.speedup is None else described | {"bf16_speedup": self.speedup}

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision where asked for; weights stay in fp32."""
        half = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if half else None, enabled=half)


def resolve(
    device: str, precision: str, width: int | None = None, measured: Path | None = None
) -> Compute:
    """Turn the config's values into what this machine has; CotoError if it lacks the GPU.

    On a CPU ``auto`` chooses by the time that products of a model of this `width` take in either
    precision. The file `measured` keeps what the first job has found, so that all runs that are
    compared have one precision, also where several kinds of machines share a results folder.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise CotoError("device = 'cuda': expected a visible GPU; use 'auto' or 'cpu' without one")
    where = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "fp16" and where == "cpu":
        raise CotoError("precision = 'fp16': expected a GPU; use 'auto', 'fp32' or 'bf16' on a CPU")
    speedup = None
    if precision == "auto" and where == "cuda":
        # bf16 where its products are faster, not merely emulated.
        precision = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp32"
    elif precision == "auto":
        speedup = bf16_speedup(width or 512) if measured is None else _first(width or 512, measured)
        precision = "bf16" if BF16_ON_CPU and speedup >= _FASTER else "fp32"
    return Compute(torch.device(where), _DTYPES[precision], speedup)


def bf16_speedup(width: int) -> float:
    """How many times faster a product with frozen weights is in bf16 than in fp32 on this CPU.

    The product is that of an MLP: 256 tokens in fp32, which autocast casts, and weights of shape
    (4 × width, width), cast before. It takes some milliseconds.
    """
    width = min(width, _WIDEST)
    tokens, best = torch.ones(_TOKENS, width), dict.fromkeys(("fp32", "bf16"), math.inf)
    weights = {name: torch.ones(4 * width, width, dtype=_DTYPES[name]) for name in best}
    with torch.inference_mode():
        # In turn, and the best of each: other work on the machine slows down some of them.
        for _ in range(7):
            for name, weight in weights.items():
                begun = time.perf_counter()
                linear(tokens.to(weight.dtype), weight)
                best[name] = min(best[name], time.perf_counter() - begun)
    return round(best["fp32"] / best["bf16"], 2)


def _first(width: int, measured: Path) -> float:
    """What the first job that asked has measured."""
    measured.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(measured.with_suffix(".lock")):
        if not measured.is_file():
            made = {"speedup": bf16_speedup(width), "hardware": record.processor()}
            with record.atomic(measured) as temporary:
                temporary.write_text(json.dumps(made) + "\n")
    found = json.loads(measured.read_text())
    if found["hardware"] != record.processor():
        log.info(
            "precision = auto: as measured on another machine (%s) of this results folder; "
            "set `precision` to choose yourself",
            found["hardware"],
        )
    return float(found["speedup"])
