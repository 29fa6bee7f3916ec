"""Adapters on disk, in PEFT's format: reading their tensors, checking what training left."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from coto.adapters.delta import Factors, LowRankAdapter, equal_ranks
from coto.adapters.kinds import KINDS, Adapter, Kind, peft_config
from coto.errors import CotoError

PREFIX = "base_model.model."
"""What PEFT's files put before the base model's names."""

# Keys of PEFT's file that say where an adapter is or how it was trained, not what its ΔW is.
_HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version"),
    *("revision", "task_type", "target_modules", "exclude_modules", "layers_to_transform"),
    *("layers_pattern", "modules_to_save", "rank_dropout", "module_dropout"),
}
# Values that switch a setting off, which another version of PEFT than ours may have.
_OFF: tuple[Any, ...] = (None, False, "", "none", [], {})


def read_adapter(folder: Path) -> LowRankAdapter:
    """Read a saved adapter; tensors in fp32 on the CPU, heads under the base model's names.

    What ``rank_pattern`` and ``alpha_pattern`` scale in another way goes into B. CotoError if files
    are missing, the adapter is of no known kind, or its ΔW depends on settings that are not read.
    """
    at = f"adapter {str(folder)!r}"
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError) as error:
        raise CotoError(f"{at}: cannot be read ({error})") from None
    kind = _kind(config, at)
    layers: dict[str, dict[str, Tensor]] = {}
    heads: dict[str, Tensor] = {}
    trained = [f".{name}." for name in config.get("modules_to_save") or ()]
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        part = next((p for p, suffix in kind.parts.items() if name.endswith(f".{suffix}")), None)
        if part is not None:
            module = name.removesuffix(f".{kind.parts[part]}")
            layers.setdefault(module, {})[part] = tensor.float()
        elif any(module in f".{name}" for module in trained):
            heads[name] = tensor.float()
        else:
            raise CotoError(
                f"{at}: tensor {name!r}: expected a part of {kind.name} "
                f"({', '.join(kind.parts.values())}) or of modules_to_save"
            )
    for module, parts in layers.items():
        if missing := sorted(kind.parts.keys() - parts):
            raise CotoError(f"{at}: {module} lacks {kind.parts[missing[0]]}")
    made: Any = Factors if kind.low_rank else SimpleNamespace
    modules = {module: made(**parts) for module, parts in sorted(layers.items())}
    return _scaled(LowRankAdapter(kind.name, 1.0, modules, heads), kind, config)


def check_adapter(folder: Path) -> LowRankAdapter:
    """Read an adapter that training has just saved, and refuse one that cannot have learned.

    CotoError if a tensor is not finite, or a part, such as B, is still zero in every module.
    """
    adapter, at = read_adapter(folder), f"adapter {str(folder)!r}"
    for module, parts in adapter.modules.items():
        if not all(torch.isfinite(t).all() for t in vars(parts).values() if t is not None):
            raise CotoError(f"{at}: {module} is not finite: training diverged")
    for part in KINDS[adapter.kind].parts:
        if not any(getattr(parts, part).any() for parts in adapter.modules.values()):
            raise CotoError(f"{at}: every {part.upper()} is zero: it was never trained")
    return adapter


def _kind(config: Mapping[str, Any], at: str) -> Kind:
    """The kind that a saved adapter is of: of those that fit, the one with most arguments."""
    method = config.get("peft_type")
    methods = {k.name: k.config.removesuffix("Config").upper() for k in KINDS.values()}
    fitting = [
        kind
        for kind in KINDS.values()
        if kind.stored is None
        and methods[kind.name] == method
        and all(config.get(key) == value for key, value in kind.extra.items())
    ]
    if not fitting:
        known = ", ".join(sorted(set(methods.values())))
        raise CotoError(f"{at}: peft_type = {method!r}: expected one of {known}")
    kind = max(fitting, key=lambda kind: len(kind.extra))
    read = {*_HARMLESS, kind.rank, *kind.extra} | {kind.alpha, kind.dropout} - {None}
    if kind.low_rank:
        read |= {"use_rslora", "rank_pattern", "alpha_pattern"}
    defaults = _defaults(kind)
    for key, value in config.items():
        strange = value != defaults[key] if key in defaults else value not in _OFF
        if strange and key not in read:
            raise CotoError(
                f"{at}: {key} = {value!r}: expected {defaults.get(key)!r}, for "
                f"other values change the weights of {kind.name} in a way that is not read here"
            )
    return kind


def _defaults(kind: Kind) -> dict[str, Any]:
    """What PEFT writes into the file of an adapter that was made without arguments."""
    import peft

    with tempfile.TemporaryDirectory() as folder:
        getattr(peft, kind.config)(**kind.extra).save_pretrained(folder)
        return json.loads((Path(folder) / "adapter_config.json").read_text())


def _scaled(adapter: LowRankAdapter, kind: Kind, config: Mapping[str, Any]) -> LowRankAdapter:
    """The adapter with PEFT's scaling, that of modules with a scaling of their own in their B."""
    if kind.alpha is None:
        return adapter
    power = 0.5 if config.get("use_rslora") else 1
    rank, alpha = config[kind.rank], config[kind.alpha]
    scaling, modules = alpha / rank**power, dict(adapter.modules)
    ranks: dict[str, int] = config.get("rank_pattern") or {}
    alphas: dict[str, float] = config.get("alpha_pattern") or {}
    for name, factors in adapter.modules.items() if ranks or alphas else ():
        from peft.utils.other import get_pattern_key

        own_rank = ranks.get(get_pattern_key(list(ranks), name), rank)
        own = alphas.get(get_pattern_key(list(alphas), name), alpha) / own_rank**power
        if own != scaling:
            modules[name] = replace(factors, b=own / scaling * factors.b)
    return replace(adapter, scaling=scaling, modules=modules)


def write_adapter(folder: Path, adapter: LowRankAdapter, base_model: str | None = None) -> None:
    """Write an adapter, such as a merged one, as a folder that ``PeftModel.from_pretrained`` loads.

    A folder that is there is replaced, in one step. Tensors are written in fp32, heads as PEFT's
    ``modules_to_save``, lower ranks filled up with zeros, the scaling as ``lora_alpha / r``, which
    may lose its last bit. CotoError if the adapter has no modules, or its parts are not A and B.
    """
    if not adapter.modules:
        raise CotoError(f"adapter {str(folder)!r}: no modules: expected one or more")
    kind = KINDS[adapter.kind]
    if not kind.low_rank:
        raise CotoError(f"adapter {str(folder)!r}: kind {kind.name}: expected one of A and B")
    adapter = equal_ranks(adapter)
    rank = next(iter(adapter.modules.values())).rank
    # Unchecked, for a merge may have a negative scaling.
    settings = Adapter.model_construct(
        kind=adapter.kind, rank=rank, alpha=adapter.scaling * rank, dropout=0.0
    )
    heads = sorted({name.rpartition(".")[0] for name in adapter.heads})
    config = peft_config(settings, sorted(adapter.modules), heads)
    config.base_model_name_or_path, config.inference_mode = base_model, True
    tensors = dict(adapter.heads)
    for module, factors in adapter.modules.items():
        for part, suffix in kind.parts.items():
            tensors[f"{module}.{suffix}"] = getattr(factors, part)
    # safetensors takes no views, and no two tensors that share memory.
    copies = {
        PREFIX + name: tensor.detach().float().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        saved = Path(temporary) / "adapter"
        config.save_pretrained(str(saved))
        save_file(copies, saved / "adapter_model.safetensors", {"format": "pt"})
        shutil.rmtree(folder, ignore_errors=True)
        saved.rename(folder)
