"""With gradient checkpointing, blocks below the lowest active adapter are computed only once."""

from collections import Counter

import peft
import pytest
import torch
from torch import nn

from coto import AdapterGate
from coto.method.gate import adapter_layers
from tools.tiny import tiny_batch, tiny_model

TARGETS = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"], "vit": ["q_proj", "v_proj"]}
LOW, HIGH = [True, False, False], [False, False, True]


def build(name, checkpointing, late=True, **settings):
    """A tiny model with a non-zero LoRA; checkpointing is None, "reentrant" or "non-reentrant"."""
    base = tiny_model(name)
    kwargs = {"use_reentrant": checkpointing == "reentrant"}
    if checkpointing and not late:
        base.gradient_checkpointing_enable(kwargs)
    config = peft.LoraConfig(r=2, target_modules=TARGETS[name], **settings)
    model = peft.get_peft_model(base, config)
    if checkpointing and late:
        model.gradient_checkpointing_enable(kwargs)
    torch.manual_seed(1)
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            nn.init.normal_(parameter, std=0.5)
    return model.train()


def run(model, name, flags, gated=True):
    """One forward and backward pass: loss, gradients, and how often every block was computed."""
    computed = Counter()
    gate = AdapterGate(model)
    layers = dict(adapter_layers(model))
    for index, names in enumerate(gate.groups.values()):
        layers[names[0]].base_layer.register_forward_hook(
            lambda *_, index=index: computed.update([index])
        )
    torch.manual_seed(2)
    if gated:
        with gate:
            gate.set(flags)
            loss = model(**tiny_batch(name)).loss
            loss.backward()
    else:
        for on, names in zip(flags, gate.groups.values(), strict=True):
            for layer in names:
                layers[layer]._disable_adapters = not on
        loss = model(**tiny_batch(name)).loss
        loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    return loss.detach(), gradients, [computed[index] for index in range(3)]


def assert_same(ours, plain):
    assert torch.equal(ours[0], plain[0])
    assert {n for n, g in ours[1].items() if g is not None} == {
        n for n, g in plain[1].items() if g is not None
    }
    for name, gradient in plain[1].items():
        if gradient is not None:
            torch.testing.assert_close(ours[1][name], gradient, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", ["reentrant", "non-reentrant"])
@pytest.mark.parametrize("late", [True, False], ids=["enabled-late", "enabled-before-peft"])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_blocks_below_the_lowest_active_one_are_not_recomputed(name, kind, late):
    for flags, computed in [(HIGH, [1, 1, 2]), ([False, True, False], [1, 2, 2]), (LOW, [2, 2, 2])]:
        plain = run(build(name, None), name, flags)
        assert plain[2] == [1, 1, 1]
        ours = run(build(name, kind, late), name, flags)
        assert ours[2] == computed
        assert_same(ours, plain)


def test_without_the_gate_all_blocks_are_recomputed():
    """What the hooks are for; if this fails, transformers has solved it and they can go."""
    assert run(build("bert", "non-reentrant"), "bert", HIGH, gated=False)[2] == [2, 2, 2]


@pytest.mark.parametrize("kind", ["reentrant", "non-reentrant"])
def test_other_trainable_parameters_below_still_train(kind):
    settings = {"modules_to_save": ["embeddings.LayerNorm"]}
    plain = run(build("bert", None, **settings), "bert", HIGH)
    ours = run(build("bert", kind, **settings), "bert", HIGH)
    assert any("LayerNorm" in n and g is not None for n, g in plain[1].items())
    assert ours[2] == [2, 2, 2]
    assert_same(ours, plain)


@pytest.mark.parametrize("kind", ["reentrant", "non-reentrant"])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_dropout_draws_the_same_numbers_in_the_recomputation(kind):
    results = []
    for checkpointing in (None, kind):
        model = build("bert", checkpointing)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.3
        results.append(run(model, "bert", [False, True, True]))
    assert_same(results[1], results[0])


def test_the_embedding_hooks_go_with_the_gate():
    model = build("bert", "non-reentrant")
    run(model, "bert", HIGH)
    model.zero_grad()
    states = model(**tiny_batch("bert"), output_hidden_states=True).hidden_states
    assert all(state.requires_grad for state in states)
