"""Adapter kinds by name: all there is to know of each, and what a config says of an adapter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from coto.errors import CotoError
from coto.registry import OneOf, Registry
from coto.settings import Model, Positive, Probability, Projection, Rate

if TYPE_CHECKING:
    from peft import PeftConfig


@dataclass(frozen=True)
class Kind:
    """A PEFT method, and how its saved adapters stand for weight changes ΔW.

    A saved adapter belongs to the kind whose PEFT class it was made by (`config`) and whose further
    arguments (`extra`) it has, or is read as another kind (`stored`).

    Attributes:
        parts: our name of each tensor of an adapted layer -> how its name in PEFT's file ends.
            Those of `coto.adapters.delta.Factors` are ``a``, ``b`` and ``magnitude``.
        delta: ``module:function`` that makes ΔW (out, in) from the scaling, the parts of a layer
            as attributes, and its base weight W₀ (out, in).
        product: whether ΔW is the ``plain`` product s·BA, W₀ ⊙ BA (``masked``), or neither.
        rank, alpha, dropout: names of these arguments of `config`; alpha is None if ΔW is not
            scaled by alpha/rank, dropout if there is none on the adapter's input.
    """

    name: str
    config: str
    parts: Mapping[str, str]
    delta: str
    product: Literal["plain", "masked"] | None = None
    rank: str = "r"
    alpha: str | None = "lora_alpha"
    dropout: str | None = "lora_dropout"
    extra: Mapping[str, Any] = field(default_factory=dict)
    stored: str | None = None

    @property
    def low_rank(self) -> bool:
        """Whether its parts are A, B and perhaps magnitudes."""
        return {"a", "b"} <= self.parts.keys() <= {"a", "b", "magnitude"}


KINDS: Registry[Kind] = Registry("adapter kind")

_AT = "coto.adapters.delta"
_LORA = {"a": "lora_A.weight", "b": "lora_B.weight"}
_DORA = {**_LORA, "magnitude": "lora_magnitude_vector"}
_HIRA = {"a": "hira_A", "b": "hira_B"}
_lora = KINDS.add(Kind("lora", "LoraConfig", _LORA, f"{_AT}:lora", "plain"))
KINDS.add(replace(_lora, name="rslora", extra={"use_rslora": True}, stored="lora"))
KINDS.add(Kind("dora", "LoraConfig", _DORA, f"{_AT}:dora", extra={"use_dora": True}))
KINDS.add(
    Kind("hira", "HiraConfig", _HIRA, f"{_AT}:hira", "masked", alpha=None, dropout="hira_dropout")
)


class Adapter(Model):
    """A low-rank adapter."""

    kind: Annotated[str, OneOf(KINDS)] = Field(description="PEFT method.")
    rank: Positive = Field(8, description="Rank r of the factors.")
    alpha: Rate = Field(
        16.0, description="LoRA alpha: ΔW is scaled by alpha/r (rslora: alpha/√r). HiRA has none."
    )
    dropout: Probability = Field(
        0.0, description="Dropout on the adapter's input. 0 where arms are paired."
    )
    targets: tuple[Projection, ...] = Field(
        ("query", "key", "value"), description="Projections of each block that get an adapter."
    )


def peft_config(
    adapter: Adapter, targets: Sequence[str], heads: Sequence[str], task_type: str | None = None
) -> "PeftConfig":
    """PEFT configuration of an adapter on the modules `targets`, as the backbone calls them.

    `heads` are trained in full and saved with the adapter; `task_type` is PEFT's, such as
    ``SEQ_CLS``, and None for models that PEFT has no name for. CotoError if the kind has no dropout
    on the input and one is asked for.
    """
    import peft

    kind = KINDS[adapter.kind]
    arguments = {kind.rank: adapter.rank, "task_type": task_type, **kind.extra}
    arguments |= {"target_modules": list(targets), "modules_to_save": list(heads) or None}
    if kind.alpha is not None:
        arguments[kind.alpha] = adapter.alpha
    if kind.dropout is not None:
        arguments[kind.dropout] = adapter.dropout
    elif adapter.dropout:
        raise CotoError(f"adapter: dropout = {adapter.dropout}: expected 0, {kind.name} has none")
    return getattr(peft, kind.config)(**arguments)
