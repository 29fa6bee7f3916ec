"""Vision transformers of timm: split projections, local folders, adapters, the head."""

import copy
import json

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from coto import AdapterGate
from coto.errors import CotoError
from coto.models.images import vit
from coto.models.images.vit import ConvStem
from tests.models.small_vision import (
    VIT_CONFIG,
    adapted,
    backbone,
    outputs_of_saved_adapter,
    train,
    write_vit,
)

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    write_vit(tmp_path / "vit")
    return tmp_path / "vit"


def load(folder, **arguments):
    return vit.load(backbone("vit", path=str(folder)), CPU, **arguments)[0]


def thirds(layer):
    """Weight of the one layer that three stand for."""
    return torch.cat([part.weight.detach() for part in (layer.q, layer.k, layer.v)])


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(6, 1, 12, 12, generator=draw)
    return {"pixel_values": images, "labels": torch.tensor([0, 1, 2, 0, 1, 2])}


# --- split projections ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"qkv_bias": False}, {"qk_norm": True}, {"init_values": 1}]
)
def test_split_and_fused_models_are_the_same(changes):
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", num_classes=5, img_size=32, depth=2, **changes
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    weights, expected = copy.deepcopy(model.state_dict()), model(images).detach()
    assert vit.split(model) is model
    names = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert {f"blocks.{i}.attn.qkv.{part}" for i in (0, 1) for part in "qkv"} < names
    torch.testing.assert_close(model(images), expected, rtol=0, atol=2e-6 * expected.abs().max())
    for i, block in enumerate(model.blocks):
        layer = block.attn.qkv
        assert torch.equal(thirds(layer), weights[f"blocks.{i}.attn.qkv.weight"])
        if layer.q.bias is not None:
            biases = [part.bias for part in (layer.q, layer.k, layer.v)]
            assert torch.equal(torch.cat(biases), weights[f"blocks.{i}.attn.qkv.bias"])
    others = {name for name in weights if ".attn.qkv." not in name}
    for name in others:
        assert torch.equal(model.state_dict()[name], weights[name]), name


def test_each_part_is_its_third_of_the_fused_layer():
    fused = nn.Linear(4, 12)
    layer = vit.SplitProjections(fused)
    layer.k.weight.data += 1
    changed = (thirds(layer) - fused.weight).detach()
    assert not changed[:4].any()
    assert not changed[8:].any()
    assert (changed[4:8] > 0.99).all()


def test_a_model_without_fused_projections_is_refused():
    with pytest.raises(CotoError, match=r"Sequential: has no fused attn\.qkv, expected a plain"):
        vit.split(nn.Sequential(nn.Linear(2, 6)))


# --- loading -------------------------------------------------------------------------------------


def test_a_folder_is_loaded_with_its_weights_and_without_its_head(tmp_path, batch):
    built = write_vit(tmp_path, arguments=VIT_CONFIG["arguments"] | {"num_classes": 7}).eval()
    loaded, pixels = vit.load(backbone("vit", path=str(tmp_path)), CPU, classes=3)
    features = built.forward_head(built.forward_features(batch["pixel_values"]), pre_logits=True)
    model = loaded.eval()
    model.head = nn.Identity()
    torch.testing.assert_close(model(batch["pixel_values"]).logits, features, rtol=1e-5, atol=1e-5)
    assert (pixels.size, pixels.mean, pixels.std) == (12, (0.4,), (0.3,))
    assert features.std() > 0.1


def test_broken_folders_are_told(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    for change, told in {
        "stem": (None, "weights do not fit"),
        "architecture": ("ResNet", "architecture = 'ResNet': expected 'VisionTransformer'"),
        "arguments": (config["arguments"] | {"patch_size": 8}, "patch_size = 8: expected 4"),
        "image_size": (16, "weights do not fit"),
    }.items():
        (folder / "config.json").write_text(json.dumps(config | {change: told[0]}))
        with pytest.raises(CotoError, match=told[1]):
            load(folder)
    config["arguments"]["heads"] = 3
    with pytest.raises(CotoError, match=r"arguments: .*'heads'"):
        vit.build(config)
    del config["mean"]
    with pytest.raises(CotoError, match="expected the key 'mean'"):
        vit.build(config)
    (folder / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(CotoError, match="cannot be read"):
        load(folder)
    with pytest.raises(CotoError, match=r"expected a directory with a config\.json"):
        load(tmp_path / "nothing")


def test_a_pinned_revision_of_a_timm_model_is_the_one_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commits = ["a" * 40, "b" * 40]
    for seed, commit in enumerate(commits):
        torch.manual_seed(seed)
        snapshot = tmp_path / "models--timm--test_vit.r160_in1k" / "snapshots" / commit
        snapshot.mkdir(parents=True)
        weights = timm.create_model("test_vit").state_dict()
        save_file(weights, snapshot / "model.safetensors")
        loaded, pixels = vit.load(backbone("vit", timm="test_vit.r160_in1k", revision=commit), CPU)
        blocks = loaded.vit.blocks
        assert torch.equal(thirds(blocks[0].attn.qkv), weights["blocks.0.attn.qkv.weight"])
        assert (pixels.size, pixels.channels) == (160, 3)


def test_timm_models_that_cannot_be_used_are_told():
    with pytest.raises(CotoError, match=r"'vit_gigantic': cannot be loaded \(Unknown model"):
        vit.load(backbone("vit", timm="vit_gigantic"), CPU)


def test_dropout_of_the_backbone_is_what_is_asked_for(folder):
    model = load(folder, dropout=0.2)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.2}


# --- the stem ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [12, 28, 30])
def test_the_stem_makes_as_many_tokens_as_it_says(side):
    stem = ConvStem(side, 8, 1, 16, channels=[4, 4, 8])
    assert stem(torch.randn(2, 1, side, side)).shape == (2, stem.num_patches, 16)
    assert stem.grid_size[0] ** 2 == stem.num_patches


def test_the_stem_is_the_same_in_training_and_for_any_batch():
    stem = ConvStem(12, 4, 1, 16, channels=[4, 8])
    images = torch.randn(5, 1, 12, 12)
    alone = stem.eval()(images[2:3])
    torch.testing.assert_close(stem.train()(images)[2:3], alone, rtol=1e-5, atol=1e-5)
    assert not list(stem.buffers())


def test_a_stem_of_another_stride_is_refused():
    with pytest.raises(ValueError, match="patch_size = 16: expected 4"):
        ConvStem(32, 16, 1, 16, channels=[4, 8])


# --- adapters and the head -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "hira"])
def test_only_adapters_and_the_head_train_and_their_deltas_give_the_same(
    folder, batch, tmp_path, kind
):
    model = adapted(load(folder, classes=3), kind, ["q", "k", "v"], ["head"])
    changed = train(model, batch, steps=3)
    assert changed == {name for name, p in model.named_parameters() if p.requires_grad}
    adapters = {name for name in changed if "head" not in name}
    assert {name.rpartition(".attn")[0] for name in adapters} == {
        f"base_model.model.vit.blocks.{i}" for i in range(3)
    }
    assert len(changed - adapters) == 2
    # The head that the file brings has another width than the one it replaces.
    got, expected = outputs_of_saved_adapter(
        model, load(folder, classes=5), batch, tmp_path / "adapter"
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert got.shape == (6, 3)
    assert not torch.allclose(got, load(folder, classes=3).eval()(**batch).logits, atol=1e-2)


def test_the_gate_finds_the_blocks(folder):
    gate = AdapterGate(adapted(load(folder), "lora", ["q", "k", "v"], ["head"]))
    assert [len(names) for names in gate.groups.values()] == [3, 3, 3]
    assert gate.depth == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_fresh_head_knows_nothing_and_a_trained_one_stays(folder, batch):
    model = load(folder, classes=2).eval()
    model.resize_head(3)
    assert torch.equal(model(**batch).logits, torch.zeros(6, 3))
    model.head.weight.data += 1
    model.resize_head(3)
    assert not model.head.weight.any()
    wrapped = adapted(model, "lora", ["q"], ["head"])
    train(wrapped, batch)
    before = wrapped.eval()(**batch).logits
    model.resize_head(3)
    assert torch.equal(wrapped(**batch).logits, before)
    assert before.any()
    with pytest.raises(CotoError, match="head: 3 classes in training, expected the task's 4"):
        model.resize_head(4)


def test_gradient_checkpointing_changes_no_gradient(folder, batch):
    gradients, calls = [], []
    for checkpointing in (False, True):
        model = adapted(load(folder, classes=3), "lora", ["q", "v"], ["head"])
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter)
        if checkpointing:
            model.activation_checkpointing_enable()
        count = []
        block = model.base_model.model.vit.blocks[1]
        block.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        model.train()(**batch).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
        calls.append(len(count))
    assert calls == [1, 2]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
