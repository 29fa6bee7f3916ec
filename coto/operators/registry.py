"""Merging operators by name. Light on purpose: the workflow checks names before any job runs.

An operator is one entry here, naming the function that does it:
``function(adapters, weights, base, **settings) -> Merged``.
"""

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
        name: Key in :data:`OPERATORS`.
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

    @property
    def seeded(self) -> bool:
        """Whether its result depends on a seed."""
        return "seed" in self.settings

    def resolved(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings: the given ones over the defaults.

        Raises:
            CotoError: if one is unknown, or of another type than its default.
        """
        for key, value in settings.items():
            if key not in self.settings:
                raise CotoError(f"{self.name}: setting {key!r}: {_expected(key, self.settings)}")
            wanted = _mismatch(key, value, self.settings[key])
            if wanted:
                raise CotoError(f"{self.name}: {key} = {value!r}: expected {wanted}")
        return {**self.settings, **settings}

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


_TIES = {"keep": 0.2, "reduce": "mean", "scale": 1.0, "scope": "global"}

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator(
            name="fusion",
            summary="mean of A and mean of B; the paper's linear fusion",
            space="factors",
            module="coto.operators.merge",
            function="merge_fusion",
        ),
        Operator(
            name="ensemble",
            summary="mean of ΔW, equal to the mean of the adapters' outputs",
            space="delta",
            module="coto.operators.merge",
            function="merge_ensemble",
            settings={"rank": None},
        ),
        Operator(
            name="lora-align",
            summary="fusion after each adapter's ranks are rotated to shrink its gap to ensemble",
            space="factors",
            module="coto.operators.align",
            function="merge_aligned",
            settings={"start": "identity", "iterations": 200},
        ),
        Operator(
            name="lora-lego",
            summary="ranks of all adapters clustered into k",
            space="factors",
            module="coto.operators.lego",
            function="merge_lego",
            settings={
                "k": None,
                "seed": 0,
                "parameter_reweighting": True,
                "output_reweighting": True,
                "units": "raw",
                "norm": "l2",
            },
        ),
        Operator(
            name="task-arithmetic",
            summary="λ times the sum of ΔW",
            space="delta",
            module="coto.operators.sparse",
            function="merge_task_arithmetic",
            settings={"scale": 0.3, "rank": None},
        ),
        Operator(
            name="ties",
            summary="ΔW trimmed to its largest entries, signs elected, agreeing entries merged",
            space="delta",
            module="coto.operators.sparse",
            function="merge_ties",
            settings={**_TIES, "rank": None},
        ),
        Operator(
            name="dare",
            summary="entries of ΔW dropped at random, the rest rescaled and added",
            space="delta",
            module="coto.operators.sparse",
            function="merge_dare",
            settings={
                **_TIES,
                "drop": 0.5,
                "seed": 0,
                "inner": "task-arithmetic",
                "scale": 0.3,
                "rank": None,
            },
        ),
        Operator(
            name="dare-ties",
            summary="entries of ΔW dropped at random, the rest rescaled and merged by TIES",
            space="delta",
            module="coto.operators.sparse",
            function="merge_dare",
            settings={**_TIES, "drop": 0.5, "seed": 0, "inner": "ties", "keep": 1.0, "rank": None},
        ),
        Operator(
            name="knots",
            summary="TIES of the coordinates of ΔW in a basis that the adapters share",
            space="delta",
            module="coto.operators.knots",
            function="merge_knots",
            settings={
                "inner": "ties",
                "keep": 0.2,
                "reduce": "mean",
                "scale": 1.0,
                "drop": 0.0,
                "seed": 0,
                "rank": None,
            },
        ),
    )
}


def operator(name: str) -> Operator:
    """The operator of that name.

    Raises:
        CotoError: if there is none.
    """
    if name not in OPERATORS:
        raise CotoError(f"merging operator {name!r}: {_expected(name, OPERATORS)}")
    return OPERATORS[name]


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


def _expected(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    names = ", ".join(known) or "no settings"
    return f"expected {names}" if not close else f"did you mean {close[0]!r}? expected {names}"
