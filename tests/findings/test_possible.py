"""What a configuration cannot test is said before the run."""

from pathlib import Path

import pytest
import yaml

from coto.findings.possible import EVERY, impossible, messages
from coto.workflow.load import overlay, validate

DEFAULT = yaml.safe_load((Path(__file__).resolve().parents[2] / "config.yaml").read_text())


HALF_WAY = {"lmc-midpoint", "lmc-midpoint-ensemble"}


@pytest.mark.parametrize(
    ("glue", "claims", "words"),
    [
        (
            {"interpolate": {"weights": [0.0, 1.0], "operators": ["fusion", "ensemble"]}},
            {"lmc-midpoint", "lmc-midpoint-ensemble"},
            "0.5",
        ),
        ({"seeds": [3]}, {"all claims"}, "seeds = [3]: expected 3 or more"),
        ({"tasks": ["movies"]}, {"merging-fusion", "merging-ensemble"}, "tasks = ['movies']"),
        ({"strategies": ["coto"]}, {"all claims"}, "strategies = ['coto']: expected vanilla"),
    ],
)
def test_what_cannot_be_tested_has_its_reason(glue: dict, claims: set[str], words: str):
    only = dict.fromkeys(DEFAULT["suites"])  # null takes a suite out
    glue = {**DEFAULT["suites"]["glue"], "seeds": [0, 1, 2], **glue}
    plan = validate({**overlay(DEFAULT, {"suites": {**only, "glue": glue}}), "studies": {}})
    found = impossible(plan)
    assert set(found) == claims
    assert all(words in suites["glue"] for suites in found.values())
    assert all(line.partition(" cannot be tested: suites.glue.")[1] for line in messages(plan))


def test_the_default_can_test_everything_that_it_measures():
    found = impossible(validate(DEFAULT))
    few = [reason for reason in found.pop(EVERY, {}).values() if ".seeds = [" not in reason]
    assert (few, found) == ([], {})
