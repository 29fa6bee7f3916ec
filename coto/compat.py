"""Let the CPU build of torch live beside a CUDA build of torchvision.

The package index serves torchvision built for CUDA; next to a CPU-only torch its compiled
operators do not load, and ``import torchvision`` dies with ``operator torchvision::nms does not
exist``. transformers, peft and evaluate probe torchvision on import, so everything fails with it.

:func:`install` adds an import hook that does nothing until somebody imports torchvision. Only then,
and only if the operators are really missing, it declares their signatures; Python code of
torchvision (transforms, models, ``box_iou``) works, a call of ``nms`` itself raises. A matching
pair of torch and torchvision is left alone.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

# Kept alive for the life of the process: torch forgets the declarations of a collected library.
_libraries: list[object] = []

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class _TorchvisionOperators(MetaPathFinder):
    """Declare torchvision's missing operators just before torchvision is first imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare_missing_operators()
        return None  # the regular finders do the import


def _declare_missing_operators() -> None:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    import torch

    extension = next(Path(spec.origin).parent.glob("_C.*"), None)
    if extension is not None:
        try:
            torch.ops.load_library(str(extension))
            return
        except OSError:  # built for another torch
            pass
    library = torch.library.Library("torchvision", "DEF")
    for signature in _SIGNATURES:
        library.define(signature)
    _libraries.append(library)


def install() -> None:
    """Add the hook once; free until torchvision is imported."""
    if "torchvision" in sys.modules:
        return
    if not any(isinstance(finder, _TorchvisionOperators) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionOperators())
