"""What the experiments show: a room per subject, with its quantities, table, figure and claims.

The tables and figures are known by name without importing the modules that make them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from coto.errors import CotoError
from coto.registry import Catalogue, Entry, modules_of


@dataclass(frozen=True)
class Finding:
    """A table or figure that the report can make.

    ``caption`` is the docstring of the function that makes it, ``code`` its name in fingerprints;
    ``load`` imports it. ``needs`` names the records that it reads; ``rebuttal`` is its number in
    the authors' rebuttal, such as ``r1``, or empty.
    """

    name: str
    caption: str
    code: str
    needs: tuple[str, ...]
    rebuttal: str
    load: Callable[[], Any] = field(compare=False)


def _finding(entry: Entry) -> Finding:
    needs, rebuttal = entry.options.get("needs", ()), entry.options.get("rebuttal", "")
    if not isinstance(needs, tuple) or not isinstance(rebuttal, str):
        raise CotoError(f"{entry.code}: needs and rebuttal: expected a literal tuple and text")
    return Finding(entry.name, entry.doc, entry.code, needs, rebuttal, entry.load)


TABLES: Catalogue[Finding] = Catalogue("table", "table", "coto.findings", _finding)
FIGURES: Catalogue[Finding] = Catalogue("figure", "figure", "coto.findings", _finding)


def load_all() -> None:
    """Import every module of this package, so that :data:`coto.report.claim.CLAIMS` is full."""
    for module in modules_of("coto.findings"):
        import_module(module)
