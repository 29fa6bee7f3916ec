import copy
import warnings

import peft
import pytest
import torch
from lora_bert import bert, logits

from coto import AdapterGate
from coto.method.gate import adapter_layers
from tools.tiny import tiny_batch, tiny_model


def layers_of(gate, model, index):
    return [model.get_submodule(name) for name in list(gate.groups.values())[index]]


def flags_up(model):
    return [name for name, layer in adapter_layers(model) if layer.disable_adapters]


# --- what a skipped adapter costs and receives ---------------------------------------------------


def test_skipped_adapters_are_not_computed():
    model, calls = bert(), []
    for name, module in model.named_modules():
        if "lora_A.default" in name or "lora_B.default" in name:
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    with AdapterGate(model) as gate:
        gate.set([False, True, False])
        logits(model)
        assert len(calls) == 4  # A and B of query and value
        assert all("layer.1." in name for name in calls)
        calls.clear()
        gate.activate_all()
        logits(model)
        assert len(calls) == 12


def test_skipped_adapters_get_no_gradient_and_adamw_leaves_them_alone():
    model = bert()
    trainable = {n: p for n, p in model.named_parameters() if "lora_" in n}
    optimizer = torch.optim.AdamW(trainable.values(), lr=0.1, weight_decay=0.5)
    with AdapterGate(model) as gate:
        for flags in ([True, True, True], [False, True, False], [False, True, False]):
            gate.set(flags)
            before = {n: p.detach().clone() for n, p in trainable.items()}
            moments = copy.deepcopy(optimizer.state_dict()["state"])
            model(**tiny_batch("bert")).loss.backward()
            for name, parameter in trainable.items():
                active = flags[int(name.split("layer.")[1][0])]
                assert (parameter.grad is not None) == active, name
            optimizer.step()
            after = optimizer.state_dict()["state"]
            for index, (name, parameter) in enumerate(trainable.items()):
                active = flags[int(name.split("layer.")[1][0])]
                assert torch.equal(before[name], parameter) != active, name
                if not active:
                    for key, value in moments[index].items():
                        assert torch.equal(value, after[index][key]), (name, key)
            optimizer.zero_grad()


def test_skipping_everything_equals_disable_adapter_bit_for_bit():
    model = bert()
    with AdapterGate(model) as gate:
        gate.set([False] * 3)
        masked = logits(model)
    with model.disable_adapter():
        head = model.base_model.model.classifier
        head.enable_adapters(True)  # the trained head is no adapter: only the adapters are off
        assert torch.equal(masked, logits(model))
    assert not torch.equal(masked, logits(model))


@pytest.mark.parametrize("flags", [[True, False, True], [False, True, True], [False, False, True]])
def test_a_partial_mask_equals_peft_layers_switched_off_by_hand(flags):
    model = bert()
    with AdapterGate(model) as gate:
        gate.set(flags)
        masked = logits(model)
        off = [layer for i in range(3) if not flags[i] for layer in layers_of(gate, model, i)]
    for layer in off:
        layer.enable_adapters(False)
    assert torch.equal(masked, logits(model))


def test_autograd_stops_at_the_lowest_active_adapter():
    model = bert()
    with AdapterGate(model) as gate:
        gate.set([False, False, True])
        states = model(**tiny_batch("bert"), output_hidden_states=True).hidden_states
    assert [state.requires_grad for state in states] == [False, False, False, True]


# --- when the gate must not act ------------------------------------------------------------------


def test_evaluating_copying_saving_and_merging_in_mid_training_see_the_whole_model(tmp_path):
    model = bert()
    whole = logits(model.eval())
    model.train()
    with AdapterGate(model) as gate:
        gate.set([False, False, True])
        assert not torch.equal(whole, logits(model))
        assert torch.equal(whole, logits(model.eval()))
        assert model.get_model_status().enabled is True  # no layer looks disabled to PEFT

        model.train()
        model.save_pretrained(tmp_path)
        loaded = peft.PeftModel.from_pretrained(tiny_model("bert"), tmp_path)
        loaded.base_model.model.classifier.load_state_dict(
            model.base_model.model.classifier.state_dict()
        )
        assert torch.equal(whole, logits(loaded.eval()))

        twin = copy.deepcopy(model)  # for an average or a reference model
        assert torch.equal(whole, logits(twin))
        merged = copy.deepcopy(model).merge_and_unload()
        torch.testing.assert_close(whole, logits(merged))
        assert not torch.equal(whole, logits(model))  # the original is still gated


def test_a_merged_model_is_neither_masked_nor_unmerged():
    model = bert()
    with AdapterGate(model) as gate:
        gate.set([False, False, True])
        whole = logits(model.eval())
        model.merge_adapter()
        torch.testing.assert_close(whole, logits(model.train()))
        assert all(layer.merged for _, layer in adapter_layers(model))
        model.unmerge_adapter()
        assert not torch.allclose(whole, logits(model))


def test_disable_adapter_and_gate_compose_in_both_orders():
    model = bert()
    with model.disable_adapter():
        base = logits(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PEFT warns if only some layers are disabled
        with AdapterGate(model) as gate:
            gate.set([True, False, False])
            masked = logits(model)
            with model.disable_adapter():
                assert torch.equal(base, logits(model))
                gate.set([False, True, False])
                assert torch.equal(base, logits(model))
                gate.set([True, False, False])
            assert torch.equal(masked, logits(model))
        with model.disable_adapter(), AdapterGate(model) as gate:
            gate.set([True, False, False])
            assert torch.equal(base, logits(model))
    assert flags_up(model) == []
    assert all(p.requires_grad for n, p in model.named_parameters() if "lora_" in n)


def test_paused_shows_the_whole_model_in_train_mode():
    model = bert()
    whole = logits(model)
    with AdapterGate(model) as gate:
        gate.set([False, True, False])
        with gate.paused():
            assert torch.equal(whole, logits(model))
        assert gate.active.tolist() == [False, True, False]
        assert not torch.equal(whole, logits(model))


# --- leaving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_inside_a_skipped_layer_leaves_nothing_behind(error):
    model = bert()
    whole = logits(model)

    def fail(module, args):
        raise error

    with AdapterGate(model) as gate:
        gate.set([False, True, True])
        inside = layers_of(gate, model, 0)[0].base_layer.register_forward_pre_hook(fail)
        with pytest.raises(error):
            logits(model)
        inside.remove()
        if error is RuntimeError:
            assert flags_up(model) == []  # at once; after Ctrl-C: when the layer runs again
        model.eval()
        assert torch.equal(whole, logits(model))
        assert flags_up(model) == []
        model.train()
    assert flags_up(model) == []
    assert torch.equal(whole, logits(model))
    assert not any(layer._forward_pre_hooks for _, layer in adapter_layers(model))
    assert not any(layer._forward_hooks for _, layer in adapter_layers(model))


def test_a_new_gate_replaces_a_forgotten_one():
    model = bert()
    forgotten = AdapterGate(model).attach()
    forgotten.set([False, False, True])
    with AdapterGate(model) as gate:
        gate.set([True, False, True])
        assert forgotten.active.all()
        with AdapterGate(model):
            assert gate.active.all()
    assert not any(layer._forward_pre_hooks for _, layer in adapter_layers(model))
