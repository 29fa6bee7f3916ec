"""Adapters on disk, in PEFT's format: reading their tensors, checking what training left."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from coto.errors import CotoError
from coto.operators.adapter import Factors, Kind, LowRankAdapter

PREFIX = "base_model.model."
"""What PEFT's files put before the base model's names."""
_LORA = {"a": "lora_A.weight", "b": "lora_B.weight"}
PARTS: dict[Kind, dict[str, str]] = {
    "lora": _LORA,
    "dora": {**_LORA, "magnitude": "lora_magnitude_vector"},
    "hira": {"a": "hira_A", "b": "hira_B"},
}
"""What they call the parts of a layer's adapter."""


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
    suffixes = PARTS[kind]
    parts: dict[str, dict[str, Tensor]] = {}
    heads: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        part = next((p for p, suffix in suffixes.items() if name.endswith(f".{suffix}")), None)
        if part is None:
            heads[name] = tensor.float()
        else:
            module = name.removesuffix(f".{suffixes[part]}")
            parts.setdefault(module, {})[part] = tensor.float()
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
