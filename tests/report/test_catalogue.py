"""The catalogue of tables and figures is light, and a plugin adds to it."""

import subprocess
import sys
from pathlib import Path

import pytest

from coto import registry
from coto.errors import CotoError
from coto.findings import FIGURES, TABLES

HEAVY = ("pandas", "matplotlib", "torch", "scipy")


def test_knowing_every_name_imports_nothing_heavy() -> None:
    code = (
        "import sys, coto.report.settings\n"
        "from coto.findings import FIGURES, TABLES\n"
        "assert len(TABLES) > 10 and len(FIGURES) > 10\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_finding_says_what_it_needs_and_loads() -> None:
    table = TABLES["single_task"]
    assert table.needs == ("baseline", "train", "none", "select")
    assert table.caption.startswith("Headline score of every arm")
    assert table.code == "coto.findings.scores:single_task"
    assert table.load().__name__ == "single_task"
    assert FIGURES["masks"].needs == ()
    with pytest.raises(CotoError, match="table 'single_tusk': did you mean 'single_task'"):
        TABLES["single_tusk"]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "PLUGINS", [])
    return tmp_path / f"{tmp_path.name}.py"


def test_a_plugin_adds_a_table(plugin: Path) -> None:
    plugin.write_text(
        "from coto.report.tables import empty, table\n\n\n"
        '@table("mine", needs=("prune",), rebuttal="r9")\n'
        "def mine(frames, settings, style):\n"
        '    """My own."""\n'
        '    return empty("Mine", "Nothing.")\n'
    )
    before = len(TABLES)
    registry.load_plugins([plugin])
    mine = TABLES["mine"]
    assert (mine.needs, mine.rebuttal, mine.caption) == (
        ("prune",),
        "r9",
        "My own.",
    )
    assert mine.load()({}, None, None).title == "Mine"
    assert len(TABLES) == before + 1


def test_needs_that_are_no_literal_are_refused(plugin: Path) -> None:
    plugin.write_text(
        "from coto.report.tables import table\n\nNEEDS = ('prune',)\n\n\n"
        '@table("mine", needs=NEEDS)\n'
        "def mine(frames, settings, style): ...\n"
    )
    registry.load_plugins([plugin])
    with pytest.raises(CotoError, match="mine: needs and rebuttal: expected"):
        len(TABLES)
