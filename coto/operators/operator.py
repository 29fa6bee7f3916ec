"""What a merging operator is. Light on purpose: the workflow checks settings before any job."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

from coto.errors import CotoError

if TYPE_CHECKING:
    from torch import Tensor

    from coto.operators.adapter import LowRankAdapter
    from coto.operators.merged import Merged

Space = Literal["factors", "delta"]
Inner = Literal["task-arithmetic", "ties"]
Reduce = Literal["mean", "sum"]
Scope = Literal["global", "layer"]
Criterion = Literal["magnitude", "random"]
Units = Literal["raw", "normalised"]
Norm = Literal["l2", "max"]
Start = Literal["identity", "rotation"]
# Settings that are one of a few names, whichever operator has them.
_CHOICES: dict[str, tuple[str, ...]] = {
    "inner": get_args(Inner),
    "reduce": get_args(Reduce),
    "scope": get_args(Scope),
    "units": get_args(Units),
    "norm": get_args(Norm),
    "start": get_args(Start),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One way of merging adapters.

    Attributes:
        name: Key in :data:`coto.operators.registry.OPERATORS`.
        summary: One line for people.
        space: What it acts on: the factors A and B, or the weight changes ΔW.
        module: The module of its function, for code fingerprints: it is imported by name.
        function: Name of the function.
        settings: Every setting with its default.
        kinds: Kinds of adapters that it is defined for.
        why_not: For the other kinds, why it is not.
    """

    name: str
    summary: str
    space: Space
    module: str
    function: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("lora", "dora", "hira")
    why_not: str = ""

    def draws(self, settings: Mapping[str, Any]) -> bool:
        """Whether, with these settings, its result depends on its seed."""
        return "seed" in self.settings and self.resolved(settings).get("drop") != 0

    def resolved(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings: the given ones over the defaults.

        Raises:
            CotoError: if one is unknown, or of another type than its default.
        """
        for key, value in settings.items():
            if key not in self.settings:
                raise CotoError(f"{self.name}: setting {key!r}: {expected(key, self.settings)}")
            wanted = _mismatch(key, value, self.settings[key])
            if wanted:
                raise CotoError(f"{self.name}: {key} = {value!r}: expected {wanted}")
        given = {
            # One spelling per number: 1 is 1.0 where the default is no whole number.
            key: float(value) if isinstance(self.settings[key], float) else value
            for key, value in settings.items()
        }
        return {**self.settings, **given}

    def check_kind(self, kind: str) -> None:
        """Refuse a kind of adapter that the operator is not defined for.

        Raises:
            CotoError: naming operator, kind and reason.
        """
        if kind not in self.kinds:
            raise CotoError(f"{self.name}: not defined for {kind}: {self.why_not}")

    def __call__(
        self,
        adapters: "Sequence[LowRankAdapter]",
        weights: Sequence[float],
        base: "Mapping[str, Tensor]",
        settings: Mapping[str, Any] | None = None,
    ) -> "Merged":
        """Merge adapters.

        Args:
            adapters: one or more, of one kind and on the same modules.
            weights: their shares, 1/n each for a plain merge.
            base: base weights (out, in) by module name.
            settings: those that differ from the defaults.

        Raises:
            CotoError: if a setting is unknown, or the adapters cannot be merged this way.
        """
        arguments = self.resolved(settings or {})
        for adapter in adapters:
            self.check_kind(adapter.kind)
        function = getattr(import_module(self.module), self.function)
        return function(adapters, weights, base, **arguments)


def _mismatch(key: str, value: Any, default: Any) -> str:
    """What a setting should be, if its value cannot be one; else nothing."""
    if key in _CHOICES:
        return "" if value in _CHOICES[key] else f"one of {', '.join(_CHOICES[key])}"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, float):
        return "" if whole or isinstance(value, float) else "a number"
    if default is None:
        return "" if whole or value is None else "a whole number or null"
    return "" if whole else "a whole number"


def expected(name: str, known: Mapping[str, Any]) -> str:
    """What a name should have been, with the nearest one that is known."""
    close = difflib.get_close_matches(name, known, n=1)
    names = ", ".join(known) or "no settings"
    return f"expected {names}" if not close else f"did you mean {close[0]!r}? expected {names}"
