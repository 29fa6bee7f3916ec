"""Adapter kinds: what a config makes of them, and one from outside in all places."""

from pathlib import Path

import peft
import pytest
import torch

from coto.adapters.delta import deltas
from coto.adapters.kinds import KINDS, Adapter, peft_config
from coto.adapters.store import check_adapter, read_adapter, write_adapter
from coto.analysis.geometry import geometry
from coto.errors import CotoError
from coto.models.weights import base_weights, changed
from coto.operators.keep import kept, prune
from coto.operators.operator import OPERATORS, PRUNING
from coto.registry import PLUGINS, load_plugins
from tools.tiny import tiny_batch, tiny_model

TARGETS = ["query", "value"]
PLUGIN = Path(__file__).with_name("loha_plugin.py")


@pytest.fixture
def loha():
    load_plugins([PLUGIN])
    yield Adapter(kind="loha", rank=3, alpha=6.0)
    PLUGINS.remove("coto_plugin_loha_plugin")
    del KINDS["loha"]


def trained(settings, folder, seed=0):
    """An adapter that a few steps have moved from where it began, saved."""
    torch.manual_seed(seed)
    model = peft.get_peft_model(tiny_model("bert"), peft_config(settings, TARGETS, ["classifier"]))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        model(**tiny_batch("bert")).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return model.eval()(**tiny_batch("bert")).logits.detach()


@pytest.mark.parametrize("name", ["lora", "rslora", "dora", "hira", "loha"])
def test_a_saved_adapter_computes_what_peft_computes(tmp_path, loha, name):
    settings = Adapter(kind=name, rank=3, alpha=6.0)
    expected = trained(settings, tmp_path)
    adapter = check_adapter(tmp_path)
    assert adapter.kind == ("lora" if name == "rslora" else name)
    base = base_weights(tiny_model("bert"), list(adapter.modules))
    with changed(tiny_model("bert"), deltas(adapter, base), adapter.heads) as model:
        found = model(**tiny_batch("bert")).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_untrained_adapter_of_any_kind_is_refused(tmp_path, loha):
    config = peft_config(loha, TARGETS, [])
    peft.get_peft_model(tiny_model("bert"), config).save_pretrained(tmp_path)
    with pytest.raises(CotoError, match="every B2 is zero: it was never trained"):
        check_adapter(tmp_path)


def test_a_kind_from_outside_is_merged_and_pruned_where_its_change_is_enough(tmp_path, loha):
    for seed in (0, 1):
        trained(loha, tmp_path / str(seed), seed)
    pair = [read_adapter(tmp_path / str(seed)) for seed in (0, 1)]
    base = base_weights(tiny_model("bert"), list(pair[0].modules))
    one, two = (deltas(adapter, base) for adapter in pair)
    for name, entry in OPERATORS.items():
        if name in ("fusion", "lora-align", "lora-lego"):
            with pytest.raises(CotoError, match=f"{name}: not defined for loha: it has no factors"):
                entry(pair, [0.5, 0.5], base)
        else:
            merged = entry(pair, [0.5, 0.5], base)
            assert merged.deltas.keys() == one.keys()
            assert merged.adapter is None
    assert OPERATORS["ensemble"](pair, [0.5, 0.5], base, {"rank": 4}).adapter.kind == "lora"
    for name, method in PRUNING.items():
        if "factors" in name:
            with pytest.raises(CotoError, match=f"{name}: not defined for loha"):
                method(pair[0], one, base, 0.5)
        else:
            sparse = method(pair[0], one, base, 0.5)
            share = sum(int((m == 0).sum()) for m in sparse.values())
            assert share == sum(m.numel() for m in one.values()) / 2
    low = prune(pair[0], kept(one, "low", {}))
    assert all(torch.equal(m, one[n]) for n, m in deltas(low, base).items())
    found = geometry(pair, base)
    expected = sum(float(torch.dist(one[n], two[n])) ** 2 for n in one) ** 0.5
    assert found.distance[0, 1] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(CotoError, match="kind loha: expected one of A and B"):
        write_adapter(tmp_path / "merged", pair[0])


def test_operators_and_methods_from_outside_come_last(loha):
    assert list(OPERATORS)[-1] == "largest"
    assert list(PRUNING)[-1] == "first-delta"
    assert OPERATORS["largest"].summary == "The largest entry of every ΔW"
    assert OPERATORS["largest"].code == "coto_plugin_loha_plugin:largest"


def test_what_a_kind_lacks_is_refused(loha):
    with pytest.raises(CotoError, match=r"adapter: dropout = 0\.1: expected 0, loha has none"):
        peft_config(loha.model_copy(update={"dropout": 0.1}), TARGETS, [])
