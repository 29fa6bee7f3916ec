"""A hash of the code that a stage runs: its module and all it imports inside this package.

Snakemake sees a rule's command but not the modules behind it. The fingerprint, a parameter of every
rule, lets exactly the jobs rerun whose code changed. It is taken on the syntax tree without
docstrings, so that comments, formatting and documentation rerun nothing.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "coto"
# Tables of entries. A job's settings hold the one entry that it uses, so that a new entry does not
# rerun what the old ones made.
ENTRIES = frozenset(
    {
        "coto.adapters.kinds",
        "coto.config.families",
        "coto.operators.registry",
        "coto.tasks.images",
        "coto.tasks.language",
        "coto.tasks.registry",
        "coto.tasks.text",
    }
)
ROOT = Path(__file__).resolve().parents[1]


def fingerprint(*modules: str) -> str:
    """Hash of the import closure of modules, dotted names inside this package.

    Imports inside functions count as well: they are how the stages keep their start cheap.
    """
    digest = hashlib.sha256()
    closure = {name for module in modules for name in import_closure(module)}
    for name in sorted(closure - ENTRIES):
        digest.update(name.encode())
        digest.update(_syntax(_path(name)).encode())
    return digest.hexdigest()[:16]


def import_closure(module: str) -> tuple[str, ...]:
    """All modules of this package that importing `module` and calling it can load, sorted."""
    if _path_or_none(module) is None:
        raise ValueError(f"module = {module!r}: expected a module of the package {PACKAGE!r}")
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        pending.extend(_imports(name))
        # Importing a.b.c runs a/__init__ and a.b/__init__ as well.
        if "." in name:
            pending.append(name.rpartition(".")[0])
    return tuple(sorted(found))


@cache
def _imports(module: str) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(_path(module).read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(n for n in names if n.split(".")[0] == PACKAGE and _path_or_none(n))


@cache
def _syntax(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body.pop(0)
    return ast.dump(tree)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _path_or_none(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _path(module: str) -> Path:
    path = _path_or_none(module)
    assert path is not None
    return path
