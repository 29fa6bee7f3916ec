"""Adapter kinds by name, as PEFT configurations.

A kind is one entry here (and its name in :data:`coto.config.definitions.AdapterKind`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coto.errors import CotoError

if TYPE_CHECKING:
    from peft import PeftConfig


@dataclass(frozen=True)
class Kind:
    """Which PEFT configuration a name stands for."""

    config: str
    rank: str = "r"
    alpha: str | None = "lora_alpha"
    dropout: str = "lora_dropout"
    extra: Mapping[str, Any] = field(default_factory=dict)


KINDS: dict[str, Kind] = {
    "lora": Kind("LoraConfig"),
    "rslora": Kind("LoraConfig", extra={"use_rslora": True}),
    "dora": Kind("LoraConfig", extra={"use_dora": True}),
    "hira": Kind("HiraConfig", alpha=None, dropout="hira_dropout"),
}


def peft_config(
    settings: Mapping[str, Any],
    targets: Sequence[str],
    heads: Sequence[str],
    task_type: str | None = None,
) -> "PeftConfig":
    """PEFT configuration of an adapter.

    Args:
        settings: an adapter's settings (:class:`coto.config.definitions.Adapter`).
        targets: names of the modules to adapt, as the backbone calls them.
        heads: names of the modules trained in full and saved with the adapter.
        task_type: PEFT's task type, such as ``SEQ_CLS``; none for models that PEFT has no name for.
    """
    import peft

    if settings["kind"] not in KINDS:
        raise CotoError(f"adapter kind = {settings['kind']!r}: expected one of {', '.join(KINDS)}")
    kind = KINDS[settings["kind"]]
    arguments = {
        kind.rank: settings["rank"],
        kind.dropout: settings["dropout"],
        "target_modules": list(targets),
        "modules_to_save": list(heads) or None,
        "task_type": task_type,
        **kind.extra,
    }
    if kind.alpha is not None:
        arguments[kind.alpha] = settings["alpha"]
    return getattr(peft, kind.config)(**arguments)
