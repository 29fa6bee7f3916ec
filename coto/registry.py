"""Things by name: each is named once, where it is defined, and found here.

Light ones (tasks, claims, …) are objects, added to a :class:`Registry` where they are made. Heavy
ones (operators, tables, …) are functions that a decorator names; a :class:`Catalogue` reads it on
the syntax tree, so that the workflow knows every name and imports nothing.
"""

import ast
import difflib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from coto.errors import CotoError

PACKAGE = Path(__file__).resolve().parent


class Named(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str:
        """Key in the registry."""


T = TypeVar("T", bound=Named)


def expected_one_of(name: str, known: Iterable[str]) -> str:
    """What a name should have been, the nearest first."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}expected one of {', '.join(names)}" if names else "expected none"


class Registry(dict[str, T], Generic[T]):
    """Objects by name.

    A job's code fingerprint stops at a registry: a new entry does not rerun what the old ones made.
    What a job uses of it is part of its settings, or named as its code
    (:mod:`coto.workflow.fingerprint`). ``what`` is an entry, in words, for errors.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def add(self, entry: T) -> T:
        """Add an entry and return it; CotoError if there is one of that name."""
        if entry.name in self:
            raise CotoError(f"{self.what} {entry.name!r}: there are two of that name")
        self[entry.name] = entry
        return entry

    def __missing__(self, name: str) -> T:
        raise CotoError(f"{self.what} {name!r}: {expected_one_of(name, self)}")


@dataclass(frozen=True)
class Entry:
    """A decorated function that was not imported.

    ``name`` is the first argument of the decorator, ``options`` the literal ones by keyword.
    """

    name: str
    module: str
    function: str
    doc: str
    options: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """First line of the docstring, without its full stop."""
        return self.doc.partition("\n")[0].rstrip(".")

    @property
    def code(self) -> str:
        """The function as fingerprints name it, ``module:function``."""
        return f"{self.module}:{self.function}"

    def load(self) -> Callable[..., Any]:
        """The function, imported."""
        return cast(Callable[..., Any], getattr(import_module(self.module), self.function))


class Catalogue(Mapping[str, T]):
    """Functions that a decorator names in a package, at any depth, read when first asked for.

    ``what`` is an entry, in words, for errors; ``make`` turns it into what is found here.
    """

    def __init__(self, what: str, decorator: str, package: str, make: Callable[[Entry], T]) -> None:
        self.what = what
        self._decorator, self._package, self._make = decorator, package, make
        self._known: tuple[tuple[str, ...], Registry[T]] | None = None

    def __getitem__(self, name: str) -> T:
        return self._entries()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def _entries(self) -> Registry[T]:
        plugins = tuple(PLUGINS)
        if self._known is None or self._known[0] != plugins:
            found: Registry[T] = Registry(self.what)
            for module in (*modules_of(self._package), *plugins):
                for entry in _decorated(module, self._decorator):
                    found.add(self._make(entry))
            self._known = plugins, found
        return self._known[1]


@dataclass(frozen=True)
class OneOf:
    """For ``Annotated[str, OneOf(TASKS)]``: pydantic takes the name of an entry."""

    known: Mapping[str, Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "enum": list(self.known)}

    def _check(self, name: str) -> str:
        if name not in self.known:
            raise ValueError(expected_one_of(name, self.known))
        return name

    def __hash__(self) -> int:
        return id(self.known)


# Modules from outside this package whose entries count as well; see :func:`load_plugins`.
PLUGINS: list[str] = []


def load_plugins(files: Iterable[Path | str]) -> None:
    """Import Python files whose tasks, adapters, operators, tables, … are to be known here."""
    from importlib.util import module_from_spec, spec_from_file_location

    for file in map(Path, files):
        name = f"coto_plugin_{file.stem}"
        if name in PLUGINS:
            continue
        spec = spec_from_file_location(name, file.resolve())
        if not file.is_file() or spec is None or spec.loader is None:
            raise CotoError(f"plugins: {str(file)!r}: expected a Python file")
        sys.modules[name] = module = module_from_spec(spec)
        PLUGINS.append(name)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            PLUGINS.remove(name)
            del sys.modules[name]
            if isinstance(error, CotoError):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise CotoError(f"plugins: {str(file)!r}: cannot be imported ({reason})") from error


def file_of(module: str) -> Path | None:
    """The file of a module of this package or of a plugin, without importing it."""
    if module in PLUGINS:
        return Path(str(sys.modules[module].__file__))
    first, *rest = module.split(".")
    if first != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*rest)
    return next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)


def modules_of(package: str) -> list[str]:
    """Names of a package's modules at any depth, sorted."""
    folder = PACKAGE.joinpath(*package.split(".")[1:])
    parts = (f.relative_to(PACKAGE.parent).with_suffix("").parts for f in folder.rglob("*.py"))
    return sorted(".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts)


@cache
def syntax_of(file: Path) -> ast.Module:
    """The syntax tree of a file, parsed once per process."""
    return ast.parse(file.read_text())


def _decorated(module: str, decorator: str) -> Iterator[Entry]:
    file = file_of(module)
    assert file is not None
    if f"@{decorator}(" not in file.read_text():
        return
    for node in (n for n in syntax_of(file).body if isinstance(n, ast.FunctionDef)):
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == decorator:
                doc = ast.get_docstring(node) or ""
                options = {k.arg: _literal(k.value) for k in call.keywords if k.arg}
                name = ast.literal_eval(call.args[0])
                yield Entry(name, module, node.name, doc, options)


def _literal(node: ast.expr) -> Any:
    """The value of a literal; None for what would have to be run."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
