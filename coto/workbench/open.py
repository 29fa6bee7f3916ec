"""The workbench of a backbone's family; each is imported only when it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from coto.config.families import FAMILIES
from coto.device import Compute
from coto.workbench.base import Workbench


def open_bench(settings: Mapping[str, Any], compute: Compute, seed: int = 0) -> Workbench:
    """Load a job's backbone and put it on its device.

    Args:
        settings: a job's settings; ``backbone`` says which.
        compute: device and precision.
        seed: of whatever is initialised afresh.
    """
    module, name = FAMILIES[settings["backbone"]["family"]].bench
    bench: Workbench = getattr(import_module(module), name)(settings, compute, seed)
    bench.model.to(compute.device)
    return bench
