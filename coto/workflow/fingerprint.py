"""A hash of the code that a job runs: the definitions that it reaches, and what they read.

Snakemake sees a job's command, not the code behind it. The fingerprint, a parameter of every job,
lets exactly the jobs rerun whose code changed. It follows names from function to helper to constant
on the syntax tree, and imports nothing.

What counts:

- Of a definition (a function, class or constant at the top level of a module) its syntax tree,
  without docstrings and type annotations; names in annotations are not followed. A class counts as
  a whole. So does a module that is used as an object, as in ``Path(module.__file__)``.
- Of a registry or a catalogue its name alone: a new entry does not rerun what the old ones made.
  :func:`registrations` names the statements that add the entries.
- Files beside the code whose paths definitions spell out, such as
  ``Path(__file__).parent / "tasks"``, and the functions that YAML files among them name.
- The pinned version of every package that a definition imports itself. Packages that only other
  packages import (tokenizers, by transformers) do not count.

What is found by a computed name (``import_module``, a method of a registry's entry) is not seen and
has to be given as code of its own. Star imports are not followed.
"""

import ast
import atexit
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import takewhile
from pathlib import Path

from coto import registry
from coto.record import atomic
from coto.workflow.definitions import Module, Names, children

# Packages that the index knows by another name than the one they are imported by.
_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
_JOINS_PATHS = re.compile(r"Div\(\)|'joinpath'|'with_name'")
_YAML_FUNCTION = re.compile(r"!function\s+([\w.]+)")


def fingerprint(*code: str) -> str:
    """Hash of all that some definitions reach, 16 hexadecimal digits.

    Code is a definition as ``module:name``, a whole module as ``module:*``, or what
    :func:`registrations` returns; ``module:Class.method`` stands for the class. ValueError if there
    is no such definition.
    """
    kept = _kept()
    name = " ".join(sorted(code))
    if name not in kept:
        items = reached(*code)
        parts = (part for item in items for part in (item, _graph().node(item).digest))
        kept[name] = _digest(*parts)[:16]
    return kept[name]


@cache
def _kept() -> dict[str, str]:
    """Fingerprints by code, from the last process that found this very code, and kept for the next.

    They lie in Snakemake's folder; without one, nothing is kept.
    """
    file = Path(".snakemake/coto-code.json")
    files = sorted(f for f in registry.PACKAGE.rglob("*.*") if f.suffix != ".pyc")
    plugins = filter(None, map(registry.file_of, registry.PLUGINS))
    pins = registry.PACKAGE.parent / "envs" / "constraints.txt"
    contents = [f.read_bytes() for f in (*files, *plugins, pins) if f.is_file()]
    names = "\n".join(map(str, files)).encode()
    key = hashlib.sha256(b"\0".join([sys.version.encode(), names, *contents])).hexdigest()
    kept: dict[str, str] = {}
    with suppress(OSError, ValueError):
        known = json.loads(file.read_text())
        kept = dict(known["fingerprints"]) if known["key"] == key else {}
    before = dict(kept)

    def keep() -> None:
        if kept != before and file.parent.is_dir():
            with suppress(OSError), atomic(file) as temporary:
                temporary.write_text(json.dumps({"key": key, "fingerprints": kept}))

    atexit.register(keep)
    return kept


def reached(*code: str) -> tuple[str, ...]:
    """What :func:`fingerprint` covers: ``module:name``, ``data:coto/…``, ``package:…``; sorted."""
    return tuple(sorted({item for entry in code for item in _graph().closure(entry)}))


def registrations(registry_name: str, package: str) -> tuple[str, ...]:
    """The statements that add to a registry, such as ``CLAIMS``, as code for :func:`fingerprint`.

    It is ``module:CLAIMS.add`` for each module of the package, and each plugin, that has such
    statements at its top level.
    """
    names = (*registry.modules_of(package), *registry.PLUGINS)
    modules = filter(None, map(_graph().module, names))
    return tuple(f"{m.name}:{registry_name}.add" for m in modules if m.additions(registry_name))


@dataclass(frozen=True)
class Node:
    """A definition, file or package: the hash of itself, and the items that it uses."""

    digest: str
    uses: frozenset[str] = frozenset()


class Graph:
    """All that code can reach, by item. Files are taken not to change while a process runs."""

    def __init__(self) -> None:
        self._modules: dict[str, Module | None] = {}
        self._nodes: dict[str, Node] = {}
        self._closures: dict[str, frozenset[str]] = {}

    def module(self, name: str) -> Module | None:
        """A module of this package or a plugin; None for any other."""
        if name not in self._modules:
            file = registry.file_of(name)
            self._modules[name] = Module(name, file) if file else None
        return self._modules[name]

    def closure(self, code: str) -> frozenset[str]:
        """All items that code reaches, its own among them."""
        if code not in self._closures:
            items: set[str] = set()
            pending = self._items(code)
            while pending:
                items |= pending
                pending = {used for item in pending for used in self.node(item).uses} - items
            self._closures[code] = frozenset(items)
        return self._closures[code]

    def _items(self, code: str) -> set[str]:
        module_name, _, name = code.partition(":")
        module, top = self.module(module_name), name.partition(".")[0]
        if module and (name == "*" or module.statements(name)):
            return {code}
        items = self.resolve(f"{module_name}.{top}") if module and module.binds(top) else set()
        if not any(":" in item for item in items):
            raise ValueError(f"code {code!r}: expected module:name, defined in this package")
        return {item for item in items if ":" in item}

    def node(self, item: str) -> Node:
        """What an item is."""
        if item not in self._nodes:
            kind, _, name = item.partition(":")
            if kind == "package":
                self._nodes[item] = Node(_digest(*self._pins.get(name, ())))
            elif kind == "data":
                self._nodes[item] = self._data(registry.PACKAGE.parent / name)
            else:
                self._nodes[item] = self._definition(kind, name)
        return self._nodes[item]

    def resolve(self, dotted: str, seen: frozenset[str] = frozenset()) -> set[str]:
        """The items that a dotted name stands for; outside of this package the name itself.

        Args:
            dotted: the name, from the top.
            seen: names that are being resolved, against circles of imports.
        """
        first, *rest = dotted.split(".")
        module = self.module(first)
        if module is None:
            return {dotted}
        for depth, name in enumerate(rest, 1):
            items = {f"{module.name}:{name}"} if name in module.definitions else set()
            for imported in module.imports.get(name, ()):
                source = ".".join((imported, *rest[depth:]))
                # What a package imports from itself is a submodule.
                if source not in {dotted, *seen}:
                    items |= self.resolve(source, seen | {dotted})
            if items:
                return items
            inner = self.module(f"{module.name}.{name}")
            if inner is None:
                break
            module = inner
        return {f"{module.name}:*"}

    def _definition(self, module_name: str, name: str) -> Node:
        module = self.module(module_name)
        assert module is not None
        if name in module.registries:
            return Node("")
        statements = module.statements(name)
        meanings: dict[str, set[str]] = {}
        for written, dotted in Names(module, statements).found:
            meanings.setdefault(written, set()).update(self.resolve(dotted))
        targets = {target for found in meanings.values() for target in found}
        uses = {target if ":" in target else _package(target) for target in targets} - {""}
        text = "".join(map(ast.dump, statements))
        if _JOINS_PATHS.search(text):
            uses |= {f"data:{file}" for file in Paths(self, module, statements).files()}
        # A name may come to mean something else while the code that uses it reads the same.
        lines = (f"{written}={sorted(meanings[written])}" for written in sorted(meanings))
        return Node(_digest(text, *lines), frozenset(uses))

    def _data(self, file: Path) -> Node:
        content, uses = file.read_bytes(), set[str]()
        if file.suffix in {".yaml", ".yml"}:
            for dotted in _YAML_FUNCTION.findall(content.decode()):
                uses |= {item for item in self.resolve(dotted) if ":" in item}
        return Node(hashlib.sha256(content).hexdigest(), frozenset(uses))

    @cached_property
    def _pins(self) -> Mapping[str, list[str]]:
        """Lines of the constraints by package."""
        file = registry.PACKAGE.parent / "envs" / "constraints.txt"
        pins: dict[str, list[str]] = {}
        for line in file.read_text().splitlines() if file.is_file() else ():
            if name := re.match(r"[\w.-]+", line):
                pins.setdefault(_normal(name[0]), []).append(line.strip())
        return pins


@cache
def _graph() -> Graph:
    return Graph()


class Paths:
    """The files whose paths definitions spell out.

    Args:
        graph: for constants of other definitions.
        module: where the definitions are.
        statements: the definitions; paths may go through the variables that they assign.
    """

    def __init__(self, graph: Graph, module: Module, statements: Iterable[ast.stmt]) -> None:
        self._graph, self._module, self._statements = graph, module, statements
        self._variables: dict[str, list[ast.expr]] = {}
        for node in (n for statement in statements for n in ast.walk(statement)):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._variables.setdefault(node.targets[0].id, []).append(node.value)

    def files(self) -> Iterator[str]:
        """Files, and all files of folders, relative to the folder that the package is in."""
        for path in (p for statement in self._statements for p in self._spelled(statement)):
            for file in path.rglob("*") if path.is_dir() else [path]:
                if file.is_file() and file.suffix not in {".py", ".pyc"}:
                    yield Path(os.path.relpath(file, registry.PACKAGE.parent)).as_posix()

    def _spelled(self, node: ast.AST) -> Iterator[Path]:
        """Paths beside the code; of ``here / "tasks" / "a.yaml"`` not the folder."""
        paths = [Path(os.path.normpath(path)) for path, is_named in self.values(node) if is_named]
        for path in paths:
            beside = (registry.PACKAGE, self._module.file.parent)
            if path.exists() and any(map(path.is_relative_to, beside)):
                yield path
        for child in () if paths else children(node):
            yield from self._spelled(child)

    def values(self, node: ast.AST, *seen: str) -> Iterator[tuple[Path, bool]]:
        """The paths that an expression can be, and whether a part of each is a literal.

        Args:
            node: the expression.
            seen: names that are being looked up, against circles.
        """
        match node:
            case ast.Call(function, [ast.Name("__file__")]) if _last(function) == "Path":
                yield self._module.file, False
            case ast.Call(function, [ast.Constant(str(name))]) if _last(function) == "files":
                yield registry.PACKAGE.parent.joinpath(*name.split(".")), False
            case ast.Call(ast.Attribute(base, "resolve" | "absolute"), []):
                yield from self.values(base, *seen)
            case ast.Attribute(base, "parent"):
                yield from ((path.parent, named) for path, named in self.values(base, *seen))
            case ast.Subscript(ast.Attribute(base, "parents"), ast.Constant(int(up))):
                yield from ((path.parents[up], named) for path, named in self.values(base, *seen))
            case ast.Call(ast.Attribute(base, "with_name"), [ast.Constant(str(name))]):
                yield from ((path.with_name(name), True) for path, _ in self.values(base, *seen))
            case ast.BinOp(base, ast.Div(), part):
                yield from self._joined(base, [part], seen)
            case ast.Call(ast.Attribute(base, "joinpath"), parts):
                yield from self._joined(base, parts, seen)
            case ast.Name(name) if (place := f"{self._module.name}.{name}") not in seen:
                for value in self._variables.get(name, ()):
                    yield from self.values(value, *seen, place)
                if name not in self._variables and self._module.binds(name):
                    yield from self._constant(place, seen)

    def _joined(
        self, base: ast.expr, parts: Iterable[ast.expr], seen: tuple[str, ...]
    ) -> Iterator[tuple[Path, bool]]:
        names = list(takewhile(bool, map(_literal, parts)))
        if names:
            yield from ((path.joinpath(*names), True) for path, _ in self.values(base, *seen))

    def _constant(self, dotted: str, seen: tuple[str, ...]) -> Iterator[tuple[Path, bool]]:
        for item in self._graph.resolve(dotted):
            module_name, _, name = item.partition(":")
            if (module := self._graph.module(module_name)) is None:
                continue
            for statement in module.definitions.get(name, ()):
                if isinstance(statement, ast.Assign):
                    paths = Paths(self._graph, module, ())
                    yield from paths.values(statement.value, *seen, dotted)


def _literal(node: ast.expr) -> str:
    """The text of a literal; empty for what would have to be run."""
    match node:
        case ast.Constant(str(text)):
            return text
    return ""


def _last(function: ast.expr) -> str:
    """The last part of a dotted name."""
    match function:
        case ast.Name(name) | ast.Attribute(_, name):
            return name
    return ""


def _package(dotted: str) -> str:
    """The item of the package that a name is from; none of the standard library's modules."""
    name = dotted.partition(".")[0]
    if name in sys.stdlib_module_names:
        return ""
    return f"package:{_normal(_DISTRIBUTIONS.get(name, name))}"


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
