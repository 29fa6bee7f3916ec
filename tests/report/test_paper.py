import re

import pytest

from coto.errors import CotoError
from coto.findings import load_all
from coto.report.claim import CLAIMS
from coto.report.paper import _rows, paper_value
from coto.report.verdicts import UNTESTED


def test_values_are_typed() -> None:
    lora = paper_value("commonsense8_llama3_8b_r32", "Average", "LoRA", "accuracy(%)")
    assert (lora.value, lora.std, lora.quality) == (80.79, None, "second-hand")
    assert lora.copied_from == "DoRA README"
    assert "baseline copied from DoRA README" in lora.provenance
    spread = paper_value("vision_strategies", "DTD", "CoTo", "merging 1:1 acc(%)")
    assert (spread.value, spread.std, spread.copied_from) == (72.03, 0.9, "")
    clock = paper_value("training_time_math_1xA6000", "wall clock h:mm", "LoRA", "time")
    assert clock.value == 7 * 60 + 38


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (("nope", "a", "b", "c"), "experiment 'nope' unknown"),
        (("shapley", "a", "b", "c"), "task 'a' unknown, expected one of deviation from balance"),
        (
            ("commonsense8_llama2_7b_r32", "Average", "DoRA", "accuracy(%)"),
            "method 'DoRA' unknown, did you mean 'LoRA'? expected one of LoRA, LoRA-CoTo",
        ),
        (
            ("commonsense8_llama2_7b_r32", "Average", "LoRA", "f1"),
            "metric 'f1' unknown, expected one of accuracy(%)",
        ),
    ],
)
def test_unknown_values_are_errors(key: tuple[str, str, str, str], message: str) -> None:
    with pytest.raises(CotoError, match=re.escape(message)):
        paper_value(*key)


def test_a_value_without_a_number_is_never_guessed() -> None:
    key = next(key for key, row in _rows().items() if row["value"].startswith("<"))
    with pytest.raises(CotoError, match="is only known as '<"):
        paper_value(*key)


def test_copied_baselines_equal_the_publication_that_they_are_copied_from() -> None:
    for model, method, upstream in (
        ("llama3_8b", "LoRA", "LoRA r32 lr3e-4"),
        ("llama3_8b", "DoRA", "DoRA r32 lr1e-4"),
        ("llama3_8b", "HiRA", "HiRA r32"),
        ("llama2_7b", "LoRA", "LoRA r32 lr3e-4"),
    ):
        copy = paper_value(f"commonsense8_{model}_r32", "Average", method, "accuracy(%)")
        original = paper_value(f"upstream_commonsense_{model}", "Average", upstream, "accuracy(%)")
        assert copy.value == original.value
        assert copy.copied_from


def test_all_numbers_that_claims_name_exist() -> None:
    load_all()
    named = [r for claim in CLAIMS.values() for group in claim.reported.values() for r in group]
    named += [r for _, _, reported in UNTESTED.values() for r in reported]
    assert len(named) > 30
    for reported in named:
        assert re.search(r": .*\d", reported.text())
