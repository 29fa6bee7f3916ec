"""Let the CPU build of torch live beside a CUDA build of torchvision; and search paths.

The package index serves torchvision for CUDA; beside a CPU-only torch its import fails (``operator
torchvision::nms does not exist``), with it transformers, peft and evaluate. A hook declares the
operators that are really missing once somebody looks for torchvision; a call of ``nms`` raises.
"""

# Every ``import coto`` pays for these.
import os
import sys
from contextlib import suppress
from importlib.machinery import PathFinder

# Kept alive for the life of the process: torch forgets the declarations of a collected library.
_libraries: list[object] = []


class _TorchvisionOperators:
    """Declare torchvision's missing operators just before torchvision is first imported."""

    @classmethod
    def find_spec(cls, fullname: str, path: object, target: object = None) -> None:
        """Find nothing: the regular finders do the import."""
        if fullname == "torchvision":
            sys.meta_path.remove(cls)
            _declare_missing_operators()


def _declare_missing_operators() -> None:
    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    from pathlib import Path

    import torch

    extension = next(Path(spec.origin).parent.glob("_C.*"), None)
    if extension is not None:
        with suppress(OSError):  # built for another torch
            torch.ops.load_library(str(extension))
            return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)


def install() -> None:
    """Add the hook once; free until torchvision is imported."""
    if "torchvision" not in sys.modules and _TorchvisionOperators not in sys.meta_path:
        sys.meta_path.insert(0, _TorchvisionOperators)


def extended(entry: str, variable: str = "PYTHONPATH") -> str:
    """An environment variable's list of folders with ``entry`` before what it has already."""
    entries = os.environ.get(variable, "").split(os.pathsep)
    return os.pathsep.join([entry, *(other for other in entries if other not in ("", entry))])
