from pathlib import Path

import peft
import pytest
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from coto import AdapterGate
from tools.tiny import tiny_batch, tiny_model
from tools.tuners import LEFT_OUT, PROJECTIONS, TUNERS, render, try_tuner

PAGE = Path(__file__).parents[2] / "docs/tuners.md"
LIMITS = {
    ("AdaLoRA", "bert"): "skipped layers get gradients",
    ("AdaLoRA", "llama"): "skipped layers get gradients",
    ("Poly", "vit"): "ValueError: task_ids should not be None.",
}


@pytest.fixture(scope="module")
def findings():
    return {}


@pytest.mark.parametrize("model", PROJECTIONS)
@pytest.mark.parametrize("tuner", TUNERS)
def test_gate_train_save_reload(findings, tuner, model):
    findings[tuner, model] = try_tuner(TUNERS[tuner], model)
    assert str(findings[tuner, model]) == LIMITS.get((tuner, model), "yes")


def test_the_page_in_the_docs_is_up_to_date(findings):
    for tuner in TUNERS:  # those that the run of the test above left out (pytest -k, xdist)
        for model in PROJECTIONS:
            if (tuner, model) not in findings:
                findings[tuner, model] = try_tuner(TUNERS[tuner], model)
    assert render(findings) == PAGE.read_text(encoding="utf-8"), (
        "run: python -m tools.tuners > docs/tuners.md"
    )


def test_no_tuner_of_the_installed_peft_is_forgotten():
    tried = {getattr(peft, tuner.config) for tuner in TUNERS.values()}
    untried = {
        kind.value for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items() if config not in tried
    }
    assert untried == set(LEFT_OUT)


def test_adalora_can_allocate_ranks_only_while_all_adapters_are_active():
    """The remark in the table."""
    model = peft.get_peft_model(tiny_model("bert"), TUNERS["AdaLoRA"].make("bert")).train()
    with AdapterGate(model) as gate:
        model(**tiny_batch("bert")).loss.backward()
        model.base_model.update_and_allocate(0)
        model.zero_grad()
        gate.set([True, False, True])
        model(**tiny_batch("bert")).loss.backward()
        with pytest.raises(TypeError):
            model.base_model.update_and_allocate(1)


def test_a_finding_tells_what_is_wrong(monkeypatch):
    """The trial itself must be able to fail."""
    monkeypatch.setattr(AdapterGate, "set", lambda gate, flags: None)
    finding = try_tuner(TUNERS["LoRA"], "bert")
    assert "skipped layers get gradients" in finding.problems
    assert "skipping all differs from disable_adapter()" in finding.problems
