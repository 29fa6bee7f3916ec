"""Adapters on disk, in PEFT's format: reading their tensors, checking what training left."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Factors, Kind, LowRankAdapter

_PREFIX = "base_model.model."
# How PEFT's files call the parts of a layer's adapter.
_PARTS = {
    "lora_A.weight": "a",
    "lora_B.weight": "b",
    "lora_magnitude_vector": "magnitude",
    "hira_A": "a",
    "hira_B": "b",
}


def read_adapter(folder: Path) -> LowRankAdapter:
    """Read a saved adapter; tensors in fp32 on the CPU, heads under the base model's names.

    Raises:
        CotoError: if files are missing, or the adapter is of a kind that has no operators.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError) as error:
        raise CotoError(f"adapter {str(folder)!r}: cannot be read ({error})") from None
    kind, scaling = _kind(config, folder)
    parts: dict[str, dict[str, Tensor]] = {}
    heads: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(_PREFIX)
        suffix = next((part for part in _PARTS if name.endswith(f".{part}")), None)
        if suffix is None:
            heads[name] = tensor.float()
        else:
            module = name.removesuffix(f".{suffix}")
            parts.setdefault(module, {})[_PARTS[suffix]] = tensor.float()
    modules = {module: Factors(**found) for module, found in sorted(parts.items())}
    return LowRankAdapter(kind, scaling, modules, heads)


def check_adapter(folder: Path) -> LowRankAdapter:
    """Read an adapter that training has just saved, and refuse one that cannot have learned.

    Raises:
        CotoError: if a tensor is not finite, or every B is still zero.
    """
    adapter = read_adapter(folder)
    for module, factors in adapter.modules.items():
        if not all(torch.isfinite(t).all() for t in (factors.a, factors.b)):
            raise CotoError(f"adapter {str(folder)!r}: {module} is not finite: training diverged")
    if not any(factors.b.any() for factors in adapter.modules.values()):
        raise CotoError(f"adapter {str(folder)!r}: every B is zero: it was never trained")
    return adapter


def _kind(config: dict, folder: Path) -> tuple[Kind, float]:
    method = config.get("peft_type")
    if method == "HIRA":
        return "hira", 1.0
    if method == "LORA" and config.get("init_lora_weights") is True:
        root = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
        return ("dora" if config.get("use_dora") else "lora"), config["lora_alpha"] / root
    raise CotoError(
        f"adapter {str(folder)!r}: peft_type = {method!r}, init_lora_weights = "
        f"{config.get('init_lora_weights')!r}: expected LORA with True, or HIRA"
    )
