"""What the config says about the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from coto.errors import CotoError


@dataclass(frozen=True)
class _FromMapping:
    @classmethod
    def of(cls, mapping: Mapping[str, Any] | None) -> Self:
        """Take the fields from a mapping; what it leaves out keeps its default.

        Raises:
            CotoError: the mapping has a key that is no field.
        """
        known = {field.name for field in fields(cls)}
        for key in mapping or {}:
            if key not in known:
                expected = ", ".join(sorted(known))
                raise CotoError(f"report: {key}: unknown key, expected one of {expected}")
        return cls(**(mapping or {}))


@dataclass(frozen=True)
class Style(_FromMapping):
    """Looks: decimals of percentages, whether LaTeX is written, dots per inch of PNG."""

    decimals: int = 1
    latex: bool = True
    dpi: int = 200


@dataclass(frozen=True)
class Settings(_FromMapping):
    """Statistics: smallest effect of interest in accuracy points, interval level, resampling.

    ``facts`` is what a reader must know of each suite, by its name (:meth:`Plan.facts`).
    """

    margin: float = 1.0
    confidence: float = 0.95
    resamples: int = 10_000
    seed: int = 0
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def kind(self, suite: str) -> str:
        """What a suite's tasks are: text, language or image; empty where nobody said."""
        return str(self.facts.get(suite, {}).get("kind", ""))
