"""The outcome of a run in words and on one screen, from made results."""

import json
import math
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from coto.cli import main
from coto.errors import CotoError
from coto.findings.outcome.lines import SIGNS, UNTESTABLE, WORDS, lines_of, read_rows
from coto.findings.outcome.words import findings, headline, screen
from tests.findings.outcome.results import EQUAL, GAIN, HARM, result


def test_only_main_claims_count_once_per_suite_with_all_adapters_first() -> None:
    rows = [
        result("pruning", adapter="all", effect=1.0),
        result("pruning", effect=9.0),
        result("pruning-everyother", role="sensitivity"),
        result("image-generation", "", verdict="not tested here yet", effect=None),
        result("merging-fusion", verdict="not tested", effect=None),
        result("pruning", "glue", effect=2.0),
    ]
    found = [(line.suite, line.gain) for line in lines_of(rows)]
    assert found == [("images", 1.0), ("glue", 2.0)]


def test_gains_are_turned_where_less_is_better() -> None:
    (line,) = lines_of(
        [result("lmc-barrier", direction=-1, effect=-3.0, low=-5.0, high=-1.0, paper_effects=[-2])]
    )
    assert (line.gain, line.low, line.high, line.paper) == (3.0, 1.0, 5.0, (2.0,))
    assert line.words.endswith("lower by")
    (unknown,) = lines_of([result("mine", direction=-1)])
    assert unknown.words == "mine, lower by"


def test_the_headline_counts_verdicts_and_names_the_clearest_of_both_sides() -> None:
    lines = lines_of(
        [
            result("pruning", **GAIN),
            result("single-task", "glue", **HARM),
            result("merging-fusion", **EQUAL),
            result("variants"),
        ]
    )
    assert headline(lines) == (
        "Of 4 tests of the paper's main claims on 2 suites (images, glue), 1 came out supported, "
        "2 not supported and 1 inconclusive. Clearest in favour: adapters removed after training "
        "on images, +4.0 points (+2.0 to +6.0); clearest against: single tasks on glue, -3.0 "
        "points (-4.0 to -2.5)."
    )
    (undecided,) = lines_of([result("pruning")])
    assert headline([undecided]).endswith(
        "on images, 1 came out inconclusive. None is decided yet."
    )
    assert headline([]) == "No claim was tested."


def test_the_strongest_findings_are_decided_one_per_claim_and_no_harm_is_kept_quiet() -> None:
    lines = lines_of(
        [
            result("pruning", **GAIN),
            result("pruning", "glue", **GAIN | {"low": 3.0}),
            result("merging-fusion", **GAIN | {"low": 2.9}),
            result("lmc-midpoint", **GAIN | {"low": 2.8}),
            result("single-task", **HARM),
            result("variants", effect=50.0, high=99.0),
        ]
    )
    said = findings(lines)
    assert [text.partition(" (")[0] for text in said] == [
        *(WORDS["pruning"], WORDS["merging-fusion"], WORDS["single-task"])
    ]
    assert "(glue): CoTo is better" in said[0]
    assert said[2] == "Single tasks (images): CoTo is worse, -3.0 points (-4.0 to -2.5)."


def test_what_is_equal_undecided_or_untestable_is_said_as_such() -> None:
    why = "all − none is 0.3 points"
    lines = lines_of(
        [
            result("merging-fusion", **EQUAL),
            result("pruning", verdict=UNTESTABLE, effect=None, low=None, high=None, reason=why),
            result("single-task"),
        ]
    )
    first, second, third = findings(lines)
    assert first.endswith("(images): no gain of 1.0 points or more, +0.1 points (-0.2 to +0.4).")
    assert second.endswith("(images): undecided, +0.5 points (-1.0 to +2.0).")
    assert third.endswith(f"(images): {UNTESTABLE}, {why}.")


def test_without_bounds_there_is_no_interval() -> None:
    (line,) = lines_of([result("pruning", low=None, high=None)])
    assert line.interval == ""
    assert math.isnan(line.low)
    assert line.numbers == "+0.5 points"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A results folder with all main claims on three suites, every verdict among them."""
    looks = [GAIN, HARM, EQUAL, {}, {"verdict": UNTESTABLE, "effect": None}]
    places = list(enumerate(product(WORDS, ("commonsense", "glue", "images"))))
    rows = [result(name, suite, **looks[i % len(looks)]) for i, (name, suite) in places]
    (tmp_path / "claims.json").write_text(json.dumps(rows))
    (tmp_path / "claims.md").touch()
    return tmp_path


def test_the_screen_has_a_cell_for_every_verdict_and_fits(
    many: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verdicts", str(many)]) == 0
    text = capsys.readouterr().out
    rows = text.splitlines()
    assert len(rows) <= 40
    assert max(map(len, rows)) <= 100
    assert "\x1b" not in text
    lines = lines_of(read_rows(many / "claims.json"))
    width = rows[0].index("commonsense")
    table = {row[:width].strip(): row for row in rows[2:]}
    suites = rows[0].split()[1:]
    for line in lines:
        start = rows[0].index(line.suite)
        cell = table[line.words][start : start + 12].split()
        expected = [SIGNS[line.verdict]] + [f"{line.gain:+.1f}"] * math.isfinite(line.gain)
        assert cell == expected, line
    assert suites == ["commonsense", "glue", "images"]
    assert text.count("\n- ") == 3
    assert f"claims:  {many / 'claims.md'}" in text
    assert "report.html" not in text  # there is none


def test_an_output_that_knows_few_letters_gets_those(tmp_path: Path) -> None:
    (tmp_path / "claims.json").write_text(json.dumps([result("ΔW-averaged")]))
    command = [sys.executable, "-m", "coto", "verdicts", str(tmp_path)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "?W-averaged" in done.stdout


def test_more_suites_than_fit_follow_below(tmp_path: Path) -> None:
    suites = [f"suite-{i}" for i in range(8)]
    lines = lines_of([result("pruning", suite, effect=i) for i, suite in enumerate(suites)])
    rows = screen(lines, tmp_path).splitlines()
    assert max(map(len, rows)) <= 100
    heads = [row for row in rows if row.startswith("claim")]
    assert len(heads) == 2
    assert [name for row in heads for name in row.split()[1:]] == suites
    cells = [row for row in rows if row.startswith("Adapters removed")]
    numbers = [float(v) for row in cells for v in re.findall(r"[+-]\d\.\d", row)]
    assert numbers == [float(i) for i in range(8)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "claims.json: cannot be read"),
        ("[{", "claims.json: not valid JSON, perhaps half-written"),
        ("{}", "claims.json: expected the list of results"),
    ],
)
def test_a_folder_without_verdicts_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    if text is not None:
        (tmp_path / "claims.json").write_text(text)
    with pytest.raises(CotoError, match=problem):
        read_rows(tmp_path / "claims.json")
    assert main(["verdicts", str(tmp_path)]) == 2
