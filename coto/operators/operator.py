"""Merging operators and pruning methods by name, read from decorators without an import."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from coto.adapters.kinds import KINDS
from coto.errors import CotoError
from coto.registry import Catalogue, Entry, expected_one_of

if TYPE_CHECKING:
    from coto.adapters.delta import Adapters, Base, Deltas, LowRankAdapter
    from coto.operators.merge import Merged

Function = TypeVar("Function", bound=Callable[..., Any])
Space = Literal["factors", "delta"]
Inner = Literal["task-arithmetic", "ties"]
Reduce = Literal["mean", "sum"]
Scope = Literal["global", "layer"]
Criterion = Literal["magnitude", "random"]
Units = Literal["raw", "normalised"]
Norm = Literal["l2", "max"]
Start = Literal["identity", "rotation"]
# Settings that are one of a few names, whichever operator has them.
_CHOICES: dict[str, Any] = {"inner": Inner, "reduce": Reduce, "scope": Scope, "units": Units}
_CHOICES |= {"norm": Norm, "start": Start}


def operator(name: str, **options: Any) -> Callable[[Function], Function]:
    """Name a merging operator: ``function(adapters, weights, base, **settings) -> Merged``.

    The arguments are fields of :class:`Operator`, as literals: they are read without running them.
    """
    return lambda function: function


def pruning(name: str, **options: Any) -> Callable[[Function], Function]:
    """Name a pruning method: ``function(adapter, change, base, sparsity, repeat, **settings)``.

    It returns the sparser ΔW. Arguments that are no fields of :class:`PruningMethod` are settings.
    """
    return lambda function: function


@dataclass(frozen=True, kw_only=True)
class Method:
    """What operators and pruning methods have in common.

    `code` is the function, ``module:function``, imported when called; `settings` has all defaults;
    `kinds` of adapters that it is defined for (None: all), and `why_not` for others.
    """

    name: str
    summary: str
    space: Space
    code: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] | None = None
    why_not: str = ""

    def check_kind(self, kind: str) -> None:
        """Raise CotoError for a kind of adapter that it is not defined for."""
        if self.kinds is not None and kind not in self.kinds:
            raise CotoError(f"{self.name}: not defined for {kind}: {self.why_not}")
        if self.space == "factors" and not KINDS[kind].low_rank:
            raise CotoError(f"{self.name}: not defined for {kind}: it has no factors A and B")


@dataclass(frozen=True, kw_only=True)
class Operator(Method):
    """One way of merging adapters; `order` is its place in tables and lists, ascending."""

    order: int = 100

    def draws(self, settings: Mapping[str, Any]) -> bool:
        """Whether, with these settings, its result depends on its seed."""
        return "seed" in self.settings and self.resolved(settings).get("drop") != 0

    def resolved(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings over the defaults; CotoError if one is unknown or of the wrong type."""
        given = {}
        for key, value in settings.items():
            if key not in self.settings:
                known = expected_one_of(key, self.settings)
                raise CotoError(f"{self.name}: setting {key!r}: {known}")
            if wanted := _mismatch(key, value, self.settings[key]):
                raise CotoError(f"{self.name}: {key} = {value!r}: expected {wanted}")
            # One spelling per number: 1 is 1.0 where the default is no whole number.
            given[key] = float(value) if isinstance(self.settings[key], float) else value
        return {**self.settings, **given}

    def __call__(
        self,
        adapters: "Adapters",
        weights: Sequence[float],
        base: "Base",
        settings: Mapping[str, Any] | None = None,
    ) -> "Merged":
        """Merge one or more adapters, of one kind and on the same modules, with shares as weights.

        CotoError if a setting is unknown, or the adapters cannot be merged this way.
        """
        arguments = self.resolved(settings or {})
        for adapter in adapters:
            self.check_kind(adapter.kind)
        return resolve_name(self.code)(adapters, weights, base, **arguments)


@dataclass(frozen=True, kw_only=True)
class PruningMethod(Method):
    """One way of making ΔW sparse; it is repeated if it `draws`, that is, depends on chance."""

    draws: bool = False

    def __call__(
        self,
        adapter: "LowRankAdapter",
        change: "Deltas",
        base: "Base",
        sparsity: float,
        repeat: int = 0,
    ) -> "Deltas":
        """ΔW after pruning of an adapter with this ΔW; `repeat` is the number of the draw.

        `sparsity` is the share of entries set to zero, in [0, 1). CotoError for a wrong kind.
        """
        self.check_kind(adapter.kind)
        return resolve_name(self.code)(adapter, change, base, sparsity, repeat, **self.settings)


Made = TypeVar("Made", bound=Method)


def _make(cls: type[Made], entry: Entry) -> Made:
    """A method from its decorator."""
    for key, value in entry.options.items():
        if value is None:
            raise CotoError(f"{entry.code}: {key} of {entry.name!r}: expected a literal")
    given = {"name": entry.name, "code": entry.code, "summary": entry.summary, **entry.options}
    known = [f.name for f in fields(cls)]
    others = {key: given.pop(key) for key in entry.options if key not in known}
    if others and cls is Operator:
        key = next(iter(others))
        raise CotoError(f"{entry.code}: {key!r} of {entry.name!r}: {expected_one_of(key, known)}")
    return cls(**{"settings": others, **given})


class _Operators(Catalogue[Operator]):
    """Operators in the order of tables and lists."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), key=lambda name: (self[name].order, name)))


OPERATORS = _Operators("merging operator", "operator", "coto.operators", partial(_make, Operator))
PRUNING = Catalogue("pruning method", "pruning", "coto.operators", partial(_make, PruningMethod))


def _mismatch(key: str, value: Any, default: Any) -> str:
    """What a setting should be, if its value cannot be one; else nothing."""
    if names := get_args(_CHOICES.get(key)):
        return "" if value in names else f"one of {', '.join(names)}"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, float):
        return "" if whole or isinstance(value, float) else "a number"
    if default is None:
        return "" if whole or value is None else "a whole number or null"
    return "" if whole else "a whole number"
