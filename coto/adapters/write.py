"""Adapters that were made, not trained, as PEFT's folders; apart from what training runs."""

import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from coto.adapters.kinds import peft_config
from coto.adapters.store import PARTS, PREFIX
from coto.errors import CotoError
from coto.operators.adapter import LowRankAdapter
from coto.operators.svd import equal_ranks


def write_adapter(folder: Path, adapter: LowRankAdapter, base_model: str | None = None) -> None:
    """Write an adapter, such as a merged one, as a folder that ``PeftModel.from_pretrained`` loads.

    A folder that is there is replaced, in one step. Tensors are written in fp32. PEFT holds one
    rank for all modules: smaller ones are filled up with zeros. It holds the scaling as
    ``lora_alpha / r``: for some pairs of scaling and rank the last bit of a double is lost.

    Args:
        folder: the folder.
        adapter: the adapter; its heads become PEFT's ``modules_to_save``.
        base_model: name of the base model, for PEFT's record of it.

    Raises:
        CotoError: if the adapter has no modules.
    """
    if not adapter.modules:
        raise CotoError(f"adapter {str(folder)!r}: no modules: expected one or more")
    adapter = equal_ranks(adapter)
    rank = next(iter(adapter.modules.values())).rank
    settings = {
        "kind": adapter.kind,
        "rank": rank,
        "alpha": adapter.scaling * rank,
        "dropout": 0.0,
    }
    heads = sorted({name.rpartition(".")[0] for name in adapter.heads})
    config = peft_config(settings, sorted(adapter.modules), heads)
    config.base_model_name_or_path = base_model
    config.inference_mode = True
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        saved = Path(temporary) / "adapter"
        config.save_pretrained(str(saved))
        save_file(_tensors(adapter), saved / "adapter_model.safetensors", {"format": "pt"})
        shutil.rmtree(folder, ignore_errors=True)
        saved.rename(folder)


def _tensors(adapter: LowRankAdapter) -> dict[str, Tensor]:
    """Copies of an adapter's tensors, under the names of PEFT's files."""
    named = dict(adapter.heads)
    for module, factors in adapter.modules.items():
        for part, suffix in PARTS[adapter.kind].items():
            named[f"{module}.{suffix}"] = getattr(factors, part)
    # safetensors takes no views, and no two tensors that share memory.
    return {
        PREFIX + name: tensor.detach().float().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in named.items()
    }
