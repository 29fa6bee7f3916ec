"""What a module defines, as it counts for a code fingerprint, and which names that code uses.

All is read from :func:`coto.registry.syntax_of`, whose trees stay as they are.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from coto import registry

# Name -> dotted names that it is imported from; None among them where it is bound otherwise.
Bindings = dict[str, set[str | None]]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (*_DEFINITIONS, *_COMPREHENSIONS, ast.Lambda)
# Expressions that are not searched for the names that they bind, for speed. Only `:=` could bind
# one; as it then hides no name of the module, a job may rerun without need, never the reverse.
_EXPRESSIONS = (ast.Call, ast.Attribute, ast.Subscript, ast.BinOp, ast.Dict, ast.JoinedStr)


class Module:
    """The top level of a module.

    `body` is its statements without imports, docstrings and annotations, `definitions` statements
    by the names that they bind, `imports` the dotted names that a name is imported from, and
    `registries` the definitions that hold a registry or a catalogue.
    """

    def __init__(self, name: str, file: Path) -> None:
        self.name, self.file = name, file
        self.package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        self.body: list[ast.stmt] = []
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, set[str]] = {}
        for statement in _plain(registry.syntax_of(file).body):
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                self.body.append(statement)
            bound = _bindings([statement], self.package)
            for name in _changed(statement):
                bound.setdefault(name, set()).add(None)
            for name, sources in bound.items():
                if None in sources:
                    self.definitions.setdefault(name, []).append(statement)
                if imported := {source for source in sources if source}:
                    self.imports.setdefault(name, set()).update(imported)
        self.registries = {
            n for n, made in self.definitions.items() if any(map(_is_registry, made))
        }

    def binds(self, name: str) -> bool:
        """Whether a name is defined or imported here."""
        return name in self.definitions or name in self.imports

    def statements(self, name: str) -> list[ast.stmt]:
        """The statements of a definition, of the whole module (``*``), or of ``REGISTRY.add``."""
        if name == "*":
            return self.body
        base, _, method = name.partition(".")
        return self.additions(base) if method == "add" else self.definitions.get(name, [])

    def additions(self, registry_name: str) -> list[ast.stmt]:
        """The statements that add to a registry when the module is imported."""
        return [s for s in self.body if _adds(s, registry_name)]


class Names:
    """The names that statements use, where they are the module's or imported by a function.

    A name that a function binds hides the module's. One that the body of a class binds does not: it
    is hidden there alone, not in the methods, and one name too many is safe. `found` has each name
    as written with what it is called from the top, ``("np.mean", "numpy.mean")``.
    """

    def __init__(self, module: Module, statements: Iterable[ast.stmt]) -> None:
        self.found: set[tuple[str, str]] = set()
        self._module = module
        self._scopes: list[Bindings] = []
        self._read(statements)

    def _read(self, nodes: Iterable[ast.AST], scope: Bindings | None = None) -> None:
        self._scopes.append(scope or {})
        for node in nodes:
            self._read_one(node)
        self._scopes.pop()

    def _read_one(self, node: ast.AST) -> None:
        package = self._module.package
        match node:
            case ast.Name(name, ast.Load()) | ast.AugAssign(ast.Name(name)):
                self._use(name)
                self._read(children(node))
            case ast.Attribute():
                base, *rest = _chain(node)
                if isinstance(base, ast.Name):
                    self._use(".".join((base.id, *rest)))
                else:
                    self._read_one(base)
            case ast.Import() | ast.ImportFrom():
                # Another package is run by being imported, whether or not its name is used.
                for _, source in _imported(node, package):
                    if registry.file_of(source.partition(".")[0]) is None:
                        self.found.add((source, source))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                defaults = (*node.args.defaults, *filter(None, node.args.kw_defaults))
                self._read((*getattr(node, "decorator_list", ()), *defaults))
                body = [node.body] if isinstance(node, ast.Lambda) else node.body
                self._read(body, _bindings([node.args, *body], package))
            case ast.ClassDef():
                self._read((*node.decorator_list, *node.bases, *node.keywords))
                bound = _bindings(node.body, package).items()
                self._read(node.body, {n: sources for n, sources in bound if sources != {None}})
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                # The first iterable is evaluated outside, where the targets hide nothing.
                self._read_one(node.generators[0].iter)
                targets = [part.target for part in node.generators]
                self._read(children(node), _bindings(targets, package))
            case _:
                self._read(children(node))

    def _use(self, written: str) -> None:
        name, dot, rest = written.partition(".")
        for scope in reversed(self._scopes):
            if name in scope:
                self.found |= {(written, s + dot + rest) for s in scope[name] if s}
                return
        if self._module.binds(name):
            self.found.add((written, f"{self._module.name}.{written}"))


def _plain(body: Iterable[ast.stmt], in_class: bool = False) -> list[ast.stmt]:
    """Statements without docstrings, annotations and what is for type checkers alone."""
    plain: list[ast.stmt] = []
    for statement in body:
        match statement:
            case ast.Pass() | ast.Expr(ast.Constant(str())):
                pass
            case ast.If(ast.Name("TYPE_CHECKING") | ast.Attribute(_, "TYPE_CHECKING")):
                plain += _plain(statement.orelse, in_class)
            case ast.AnnAssign() if in_class:
                # That there is an annotation makes a field of it.
                plain.append(_with(statement, annotation=ast.Constant(None)))
            case ast.AnnAssign(target, _, value):
                plain += [ast.Assign([target], value)] if value else []
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                bare = {"args": _bare(statement.args), "returns": None}
                plain.append(_with(statement, **bare, body=_plain(statement.body)))
            case ast.ClassDef():
                plain.append(_with(statement, body=_plain(statement.body, in_class=True)))
            case _:
                plain.append(_plain_blocks(statement, in_class))
    return plain


def _plain_blocks(node: Any, in_class: bool) -> Any:
    """A statement, or its handler or case, with the blocks inside made plain."""
    changes: dict[str, Any] = {}
    for field, value in ast.iter_fields(node):
        match value:
            case [ast.stmt(), *_]:
                changes[field] = _plain(value, in_class)
            case [ast.excepthandler() | ast.match_case(), *_]:
                changes[field] = [_plain_blocks(part, in_class) for part in value]
    return _with(node, **changes) if changes else node


def _bare(parameters: ast.arguments) -> Any:
    """Parameters without annotations."""
    changes: dict[str, Any] = {}
    for field, value in ast.iter_fields(parameters):
        match value:
            case [ast.arg(), *_]:
                changes[field] = [_with(parameter, annotation=None) for parameter in value]
            case ast.arg():
                changes[field] = _with(value, annotation=None)
    return _with(parameters, **changes)


def _with(node: Any, **changes: Any) -> Any:
    """A copy of a node with other fields."""
    return type(node)(**{**dict(ast.iter_fields(node)), **changes})


def _bindings(nodes: Iterable[ast.AST], package: str) -> Bindings:
    """What nodes bind in the scope that they are in; relative imports start from a package."""
    bound: Bindings = {}
    outer: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        names: Iterable[tuple[str, str | None]] = ()
        match node:
            case ast.Import() | ast.ImportFrom():
                names = _imported(node, package)
            case ast.Global() | ast.Nonlocal():
                outer.update(node.names)
            case (
                ast.FunctionDef(name)
                | ast.AsyncFunctionDef(name)
                | ast.ClassDef(name)
                | ast.Name(name, ast.Store())
                | ast.arg(name)
                | ast.ExceptHandler(_, str(name))
                | ast.MatchAs(_, str(name))
                | ast.MatchStar(str(name))
                | ast.MatchMapping(_, _, str(name))
            ):
                names = [(name, None)]
        for name, source in names:
            bound.setdefault(name, set()).add(source)
        if not isinstance(node, (*_SCOPES, *_EXPRESSIONS)):
            pending += children(node)
    return {name: sources for name, sources in bound.items() if name not in outer}


def children(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes right below one; :func:`ast.iter_child_nodes` takes twice as long."""
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, list):
            yield from (part for part in value if isinstance(part, ast.AST))
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context | ast.operator):
            yield value


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str]]:
    """The names that an import binds, each with its dotted source."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            base += [node.module] if node.module else []
            yield alias.asname or alias.name, ".".join((*base, alias.name))
        else:
            top = alias.name.partition(".")[0]
            yield alias.asname or top, alias.name if alias.asname else top


def _chain(node: ast.expr) -> list[Any]:
    """What a chain of attributes starts from, and their names."""
    rest: list[str] = []
    while isinstance(node, ast.Attribute):
        rest.insert(0, node.attr)
        node = node.value
    return [node, *rest]


def _changed(statement: ast.stmt) -> Iterator[str]:
    """Names whose object a statement changes: ``NAMES["x"] = 1``."""
    if isinstance(statement, _DEFINITIONS):
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            base: ast.expr = node
            while isinstance(base, ast.Subscript | ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name):
                yield base.id


def _is_registry(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assign(_, ast.Call(ast.Name(name) | ast.Attribute(_, name))):
            return name.endswith(("Registry", "Catalogue"))
        case ast.Assign(_, ast.Call(ast.Subscript(ast.Name(name)))):
            return name.endswith(("Registry", "Catalogue"))
    return False


def _adds(statement: ast.stmt, registry_name: str) -> bool:
    run: Iterable[ast.AST] = [statement]
    if isinstance(statement, _DEFINITIONS):
        run = statement.decorator_list
    for node in (n for part in run for n in ast.walk(part)):
        match node:
            case ast.Attribute(ast.Name(name) | ast.Attribute(_, name), "add"):
                if name == registry_name:
                    return True
    return False
