"""CLIP in CLIP-LoRA's protocol."""

import pytest
import torch
from torch import nn
from transformers import CLIPModel, CLIPTokenizer

from coto import AdapterGate
from coto.errors import CotoError
from coto.models.images.model import load_clip
from tests.models.small_vision import (
    CLASSES,
    adapted,
    backbone,
    outputs_of_saved_adapter,
    train,
    write_clip,
)

CPU = torch.device("cpu")
PROMPT = "a photo of a {}."
TARGETS = ["q_proj", "k_proj", "v_proj"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return folder


@pytest.fixture
def model(folder):
    model = load_clip(backbone("clip", path=str(folder)), CPU)[0].eval()
    model.set_classes(CLASSES, PROMPT)
    return model


@pytest.fixture
def batch():
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return {"pixel_values": images, "labels": torch.tensor([0, 1, 2, 0, 1, 2])}


def test_logits_are_transformers_own_at_scale_100(folder, model, batch):
    reference = CLIPModel.from_pretrained(folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    # As CLIP-LoRA does, all prompts are padded to the length of the context.
    tokens = tokenizer(
        ["a photo of a maine coon.", "a photo of a pug.", "a photo of a sphynx."],
        padding="max_length",
        max_length=40,
        return_tensors="pt",
    )
    with torch.no_grad():
        expected = reference(pixel_values=batch["pixel_values"], **tokens)
        result = model(**batch)
    logits = expected.logits_per_image * 100 / reference.logit_scale.exp()
    torch.testing.assert_close(result.logits, logits, rtol=1e-4, atol=1e-4)
    assert logits.std() > 0.1
    expected_loss = nn.functional.cross_entropy(logits, batch["labels"])
    assert result.loss.item() == pytest.approx(expected_loss.item(), rel=1e-4)


def test_prompts_are_sentences_about_the_classes(folder, model):
    decode = CLIPTokenizer.from_pretrained(folder).decode
    sentences = [decode(ids, skip_special_tokens=True).replace(" ", "") for ids in model.prompts]
    assert sentences == ["aphotoofamainecoon.", "aphotoofapug.", "aphotoofasphynx."]
    model.set_classes(["some_dogs", "cats"], "{}, drawn.")
    assert decode(model.prompts[1], skip_special_tokens=True).replace(" ", "").startswith("cats")
    for bad in ("a photo", "{} and {}"):
        with pytest.raises(CotoError, match=r"expected one \{\} for the name"):
            model.set_classes(CLASSES, bad)


def test_an_underscore_reads_as_a_space(model):
    underscored = model.prompts
    model.set_classes([name.replace("_", " ") for name in CLASSES], PROMPT)
    assert torch.equal(model.prompts, underscored)
    model.set_classes([name.replace("_", "") for name in CLASSES], PROMPT)
    assert not torch.equal(model.prompts, underscored)


def test_a_model_without_classes_says_so(folder, batch):
    with pytest.raises(CotoError, match="has no classes"):
        load_clip(backbone("clip", path=str(folder)), CPU)[0](**batch)


def test_both_encoders_get_gradients_and_nothing_else_does(model, batch):
    wrapped = adapted(model, "rslora", TARGETS, [])
    wrapped.train()(**batch).loss.backward()
    got = {name for name, p in wrapped.named_parameters() if p.grad is not None and p.grad.any()}
    for encoder in ("text_model", "vision_model"):
        for part in TARGETS:
            for layer in (0, 1):
                name = f"{encoder}.encoder.layers.{layer}.self_attn.{part}.lora_B.default.weight"
                assert f"base_model.model.clip.{name}" in got
    assert len(got) == 12  # every A waits for its B


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "hira"])
def test_only_adapters_train_and_their_deltas_give_the_same(folder, batch, tmp_path, kind):
    model, plain = (load_clip(backbone("clip", path=str(folder)), CPU)[0] for _ in range(2))
    for each in (model, plain):
        each.set_classes(CLASSES, PROMPT)
    start = plain.eval()(**batch).logits
    wrapped = adapted(model, kind, TARGETS, [])
    changed = train(wrapped, batch)
    assert changed == {name for name, p in wrapped.named_parameters() if p.requires_grad}
    assert len(changed) == 12 * (3 if kind == "dora" else 2)
    got, expected = outputs_of_saved_adapter(wrapped, plain, batch, tmp_path)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-3)  # of logits near 100
    assert (got - start).abs().max() > 0.5


def test_the_gate_finds_the_blocks_of_both_encoders(model):
    wrapped = adapted(model, "lora", TARGETS, [])
    gate = AdapterGate(wrapped)
    assert [len(names) for names in gate.groups.values()] == [3] * 4
    assert gate.depth.tolist() == [0.5, 1, 0.5, 1]
    assert {name.split(".")[3] for name in gate.groups} == {"text_model", "vision_model"}


def test_fixed_text_is_encoded_once_and_forgotten(model, batch):
    calls = []
    model.clip.text_model.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        expected = model(**batch).logits
        assert len(calls) == 1
        with model.fixed_text():
            for start in (0, 3):
                part = batch["pixel_values"][start : start + 3]
                torch.testing.assert_close(model(part).logits, expected[start : start + 3])
        assert len(calls) == 2
        for parameter in model.clip.text_model.parameters():
            parameter.mul_(0.5)
        assert not torch.allclose(model(**batch).logits, expected, atol=0.1)


def test_dropout_of_attention_is_what_is_asked_for(folder):
    loaded = load_clip(backbone("clip", path=str(folder)), CPU, dropout=0.3)[0]
    rates = {m.dropout for m in loaded.modules() if hasattr(m, "q_proj")}
    assert rates == {0.3}


def test_gradient_checkpointing_changes_no_gradient(folder, batch):
    gradients, calls = [], []
    for checkpointing in (False, True):
        model = load_clip(backbone("clip", path=str(folder)), CPU)[0]
        model.set_classes(CLASSES, PROMPT)
        wrapped = adapted(model, "lora", TARGETS, [])
        torch.manual_seed(1)
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.1)
        if checkpointing:
            wrapped.activation_checkpointing_enable()
        count = []
        block = model.clip.text_model.encoder.layers[1].mlp
        block.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        wrapped.train()(**batch).loss.backward()
        gradients.append([p.grad for p in wrapped.parameters() if p.requires_grad])
        calls.append(len(count))
    assert calls == [1, 2]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_a_model_that_is_not_there_is_told(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CotoError, match="cannot be loaded"):
        load_clip(backbone("clip", path=str(tmp_path)), CPU)
