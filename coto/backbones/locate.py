"""Where the files of a pretrained model are, and what all its loaders do alike."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from coto.errors import CotoError


def locate(backbone: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Where a backbone's files are: a directory or hub id, and arguments for loading.

    Args:
        backbone: settings (:class:`coto.config.definitions.Backbone`). The ``path`` of one out of
            a wheel is the folder that stage ``convert`` wrote.

    Raises:
        CotoError: if the package is not installed, the directory does not exist, or the wheel's
            model was not converted.
    """
    if backbone.get("package") is not None:
        spec = find_spec(backbone["package"])
        if spec is None or spec.origin is None:
            raise CotoError(f"backbone package = {backbone['package']!r}: expected it installed")
        return str(Path(spec.origin).parent / backbone["subfolder"]), {}
    path = backbone.get("path")
    if path is not None:
        folder = Path(path).expanduser()
        if not (folder / "config.json").is_file():
            made = ", which stage `convert` makes" if backbone.get("wheel") is not None else ""
            raise CotoError(
                f"backbone path = {path!r}: expected a directory with a config.json{made}"
            )
        return str(folder), {}
    if backbone.get("wheel") is not None:
        raise CotoError(
            f"backbone wheel = {backbone['wheel']!r}: expected `path` to name the folder that "
            "stage `convert` made of it"
        )
    return backbone["hub"], {"revision": backbone["revision"]}


def set_dropout(config: PreTrainedConfig, dropout: float) -> PreTrainedConfig:
    """Set every dropout probability of a model's configuration, whatever the model calls it."""
    for name, value in config.to_dict().items():
        if re.search(r"drop(out)?(_prob|_rate|_p)?$", name) and isinstance(value, float | None):
            setattr(config, name, dropout)
    return config
