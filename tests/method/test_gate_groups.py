import warnings

import peft
import pytest
import torch
from lora_bert import QUERY_VALUE, bert, logits
from transformers import CLIPConfig, CLIPModel

from coto import AdapterGate
from coto.method.loop import InputDropout
from tools.tiny import tiny_batch, tiny_model


@pytest.mark.parametrize(
    ("name", "targets", "block"),
    [
        ("bert", QUERY_VALUE, "base_model.model.bert.encoder.layer.2"),
        ("llama", ["q_proj", "up_proj", "down_proj"], "base_model.model.model.layers.2"),
        ("vit", ["q_proj"], "base_model.model.vit.layers.2"),
    ],
)
def test_blocks_are_found_in_every_architecture(name, targets, block):
    model = peft.get_peft_model(tiny_model(name), peft.LoraConfig(target_modules=targets))
    gate = AdapterGate(model)
    assert list(gate.groups)[2] == block
    assert [len(names) for names in gate.groups.values()] == [len(targets)] * 3
    assert gate.depth == pytest.approx([1 / 3, 2 / 3, 1])
    assert len(AdapterGate(model, unit="module")) == 3 * len(targets)


def test_clip_has_24_groups_or_72_adapters():
    shape = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 12,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config=shape | {"vocab_size": 10, "bos_token_id": 1, "eos_token_id": 2},
        vision_config=shape | {"image_size": 8, "patch_size": 4},
        projection_dim=8,
    )
    adapters = peft.LoraConfig(target_modules=["q_proj", "k_proj", "v_proj"])
    model = peft.get_peft_model(CLIPModel(config), adapters)
    gate = AdapterGate(model)
    assert len(gate) == 24
    assert {len(names) for names in gate.groups.values()} == {3}
    assert gate.depth.tolist() == [(i + 1) / 12 for i in range(12)] * 2  # per encoder
    assert len(AdapterGate(model, unit="module")) == 72


def test_adapters_outside_the_blocks_are_groups_of_their_own():
    model = bert(target_modules=[*QUERY_VALUE, "word_embeddings", "pooler.dense"])
    groups = AdapterGate(model).groups
    assert [len(names) for names in groups.values()] == [1, 2, 2, 2, 1]
    assert next(iter(groups)).endswith("word_embeddings")
    assert list(groups)[-1].endswith("pooler.dense")


def test_a_function_chooses_the_groups():
    model = bert()
    gate = AdapterGate(model, unit=lambda name: name.rsplit(".")[-1])
    assert {group: len(names) for group, names in gate.groups.items()} == {"query": 3, "value": 3}
    with gate:
        gate.set([False, True])
        model(**tiny_batch("bert")).loss.backward()
    got = {n.split(".lora")[0].rsplit(".")[-1]: p.grad is not None
           for n, p in model.named_parameters() if "lora_" in n}  # fmt: skip
    assert got == {"query": False, "value": True}


def test_only_layers_of_the_active_adapter_count():
    model = bert()
    model.add_adapter("other", peft.LoraConfig(target_modules=["key"], layers_to_transform=[2]))
    assert len(AdapterGate(model)) == 3
    model.set_adapter("other")
    assert list(AdapterGate(model).groups.values()) == [
        ["base_model.model.bert.encoder.layer.2.attention.self.key"]
    ]


def test_adapters_added_by_transformers_itself_are_found():
    model = tiny_model("bert")
    model.add_adapter(peft.LoraConfig(r=2, target_modules=QUERY_VALUE))
    with AdapterGate(model.train()) as gate:
        gate.set([True, False, False])
        model(**tiny_batch("bert")).loss.backward()
    trained = {n.split("layer.")[1][0] for n, p in model.named_parameters() if p.grad is not None}
    assert trained == {"0"}


def test_heads_and_trainable_tokens_are_not_gated():
    model = bert(modules_to_save=["classifier"], trainable_token_indices={"word_embeddings": [1]})
    assert len(AdapterGate(model)) == 3
    with AdapterGate(model) as gate:
        gate.set([False, False, True])
        model(**tiny_batch("bert")).loss.backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert any("classifier" in name for name in trained)
    assert any("trainable_tokens" in name for name in trained)


# --- several adapters ---------------------------------------------------------------------------


def two_adapters(**other):
    """An adapter "one" that is frozen and an adapter "two" that trains, both active."""
    settings = {"r": 2, "target_modules": QUERY_VALUE, "init_lora_weights": False}
    torch.manual_seed(3)
    model = peft.get_peft_model(tiny_model("bert"), peft.LoraConfig(**settings), "one")
    model.add_adapter("two", peft.LoraConfig(**(settings | other)))
    model.base_model.set_adapter(["one", "two"])
    for name, parameter in model.named_parameters():
        if ".one." in name:
            parameter.requires_grad_(False)
    return model.train()


def test_a_frozen_adapter_stays_on():
    model = two_adapters()
    whole = logits(model)
    with AdapterGate(model) as gate:
        assert gate.adapters == {"two"}
        gate.set([False, False, False])
        masked = logits(model)
        gate.set([True, False, True])
        model(**tiny_batch("bert")).loss.backward()
        assert torch.equal(whole, logits(model.eval()))
        model.train()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert trained
    assert all(".two." in name and ".1." not in name for name in trained if "lora" in name)
    assert torch.equal(whole, logits(model))
    assert model.active_adapters == ["one", "two"]
    model.base_model.set_adapter(["one"])
    assert torch.equal(masked, logits(model))


def test_named_adapters_are_switched_whatever_trains():
    model = two_adapters()
    with AdapterGate(model, adapters=["one"]) as gate:
        gate.set([False, False, False])
        masked = logits(model)
    model.base_model.set_adapter(["two"])
    assert torch.equal(masked, logits(model))
    with pytest.raises(ValueError, match="adapters: got 'c', expected active ones: two"):
        AdapterGate(model, adapters=["c"])


def test_layers_of_frozen_adapters_alone_are_no_groups():
    gate = AdapterGate(two_adapters(layers_to_transform=[1]))
    assert list(gate.groups) == ["base_model.model.bert.encoder.layer.1"]


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_stays_on_trains_under_gradient_checkpointing(reentrant):
    model = two_adapters()
    for parameter in (p for n, p in model.named_parameters() if "lora_" in n):
        parameter.requires_grad_(True)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    with AdapterGate(model, adapters=["two"]) as gate:
        gate.set([False, False, False])
        model(**tiny_batch("bert")).loss.backward()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            assert (parameter.grad is not None) == (".one." in name), name


def test_input_dropout_leaves_a_frozen_adapter_alone():
    model = two_adapters()
    dropout = InputDropout(model)
    dropout.set(0.5)
    rates = {
        name.rpartition(".")[2]: module.p
        for name, module in model.named_modules()
        if "lora_dropout." in name and isinstance(module, torch.nn.Dropout)
    }
    assert rates == {"two": 0.5}
    dropout.restore()


# --- errors and warnings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdapterGate(tiny_model("bert")), "has no active PEFT adapter layer, expected"),
        (
            lambda: AdapterGate(bert(), unit="layer"),
            "unit: got 'layer', expected 'block', 'module'",
        ),
        (lambda: AdapterGate(bert(), lambda n: "a" if "query" in n else None), "value' is None"),
        (lambda: AdapterGate(bert()).set([True]), r"flags: got shape \(1,\), expected \(3,\)"),
    ],
)
def test_errors_are_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_initialisations_that_change_the_base_model_warn(init):
    config = peft.LoraConfig(target_modules=QUERY_VALUE, init_lora_weights=init)
    model = peft.get_peft_model(tiny_model("bert"), config)
    with pytest.warns(UserWarning, match=f"'{init}' moves a part of the pretrained weights"):
        AdapterGate(model)
    pretrained = logits(tiny_model("bert"))
    torch.testing.assert_close(logits(model), pretrained)
    with model.disable_adapter():
        assert not torch.allclose(logits(model), pretrained, atol=1e-5)  # the warning is true


def test_zero_initialisations_do_not_warn():
    model = bert()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AdapterGate(model)
