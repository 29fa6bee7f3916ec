"""What every rule declares, and that the Snakefile stays short."""

import re

import pytest

from coto.cli import STAGES
from tests.workflow.conftest import ROOT

RULES = {
    match[1]: match[2]
    for file in sorted((ROOT / "rules").glob("*.smk"))
    for match in re.finditer(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", file.read_text(), re.M | re.S)
}
DIRECTIVES = ("output", "log", "benchmark", "conda", "threads", "resources", "shell")


def test_there_is_one_rule_per_stage():
    assert set(RULES) == set(STAGES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_declares_everything_by_name(name: str):
    text = RULES[name]
    for directive in DIRECTIVES:
        assert re.search(rf"^    {directive}:", text, re.M), directive
    # Archives come from the package index and their content is pinned.
    if name not in ("corpora", "convert"):
        assert re.search(r"^    input:\n(        #.*\n)*        \w+=", text, re.M)
        assert re.search(r"^        settings=wire\.settings|^        settings=plan\.", text, re.M)
        assert re.search(r"^        code=", text, re.M)
    assert re.search(r"^    output:\n        \w+=", text, re.M)
    assert f"python -m coto {name} " in text


def test_the_snakefile_is_short():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 80
