"""CoTo: progressive activation of low-rank adapters (ICML 2025), as a library and a reproduction.

The method is importable alone and loads lazily, so that ``import coto`` costs nothing::

    from coto import CoToCallback
"""

from importlib import import_module
from typing import Any

from coto.compat import install

install()

__version__ = "0.1.0"

_EXPORTS = {
    "CoToCallback": "coto.method.loop",
    "AdapterGate": "coto.method.gate",
    "Schedule": "coto.method.schedule",
    "progressive_training": "coto.method.loop",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
