"""Written adapters: read back by us, and loaded by PEFT as W₀ + ΔW."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from coto.adapters.delta import Factors, LowRankAdapter, deltas, equal_ranks
from coto.adapters.store import read_adapter, write_adapter
from coto.errors import CotoError
from coto.models.weights import base_weights, changed
from coto.operators.operator import OPERATORS
from tests.operators.random_adapters import KINDS
from tools.tiny import HIDDEN, LAYERS, tiny_batch, tiny_model

MODULES = [
    f"bert.encoder.layer.{layer}.attention.self.{projection}"
    for layer in range(LAYERS)
    for projection in ("query", "value")
]


def bert():
    """The tiny BERT with weights that are large enough for adapters to matter."""
    model = tiny_model("bert")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.dim() == 2:
                parameter.mul_(10)
    return model


BASE = base_weights(bert(), MODULES)


def adapter_of(kind, seed=0, ranks=(3,), scaling=1.6, classes=2) -> LowRankAdapter:
    """An adapter of the tiny BERT with a head; ranks in turn over the modules."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator) / 2

    modules = {}
    for index, name in enumerate(MODULES):
        rank = ranks[index % len(ranks)]
        # Near the norm of W₀'s rows, where DoRA begins.
        magnitude = BASE[name].norm(dim=1) * (1 + draw(HIDDEN).abs())
        modules[name] = Factors(
            draw(rank, HIDDEN), draw(HIDDEN, rank), magnitude if kind == "dora" else None
        )
    heads = {"classifier.weight": draw(classes, HIDDEN), "classifier.bias": draw(classes)}
    return LowRankAdapter(kind, 1.0 if kind == "hira" else scaling, modules, heads)


def logits(model):
    with torch.no_grad():
        return model.eval()(**tiny_batch("bert")).logits


def check_outputs(folder, adapter):
    with changed(bert(), deltas(adapter, BASE), adapter.heads) as model:
        expected = logits(model)
    loaded = PeftModel.from_pretrained(bert(), folder)
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, logits(bert()), atol=1e-2)


def check_same(left, right):
    assert (left.kind, left.modules.keys()) == (right.kind, right.modules.keys())
    assert left.scaling == pytest.approx(right.scaling, rel=1e-15)
    for name, factors in left.modules.items():
        for part, tensor in vars(factors).items():
            other = getattr(right.modules[name], part)
            assert other is tensor is None or torch.equal(tensor, other), (name, part)
    assert left.heads.keys() == right.heads.keys()
    assert all(torch.equal(head, right.heads[name]) for name, head in left.heads.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [(3,), (2, 5, 1)])
def test_an_adapter_comes_back_and_peft_computes_with_it(tmp_path, kind, ranks):
    adapter = adapter_of(kind, ranks=ranks)
    write_adapter(tmp_path / "adapter", adapter)
    check_same(read_adapter(tmp_path / "adapter"), equal_ranks(adapter))
    check_outputs(tmp_path / "adapter", adapter)


def test_every_tensor_of_the_file_finds_its_place_and_none_is_missing(tmp_path):
    for kind in KINDS:
        write_adapter(tmp_path / kind, adapter_of(kind))
        names = set(load_file(tmp_path / kind / "adapter_model.safetensors"))
        loaded = PeftModel.from_pretrained(bert(), tmp_path / kind)
        loaded.save_pretrained(tmp_path / f"{kind}-again")
        assert set(load_file(tmp_path / f"{kind}-again" / "adapter_model.safetensors")) == names


@pytest.mark.parametrize("scaling", [2.0, 16 / 12, 0.1, -0.7])
def test_scaling_and_rank_are_kept(tmp_path, scaling):
    adapter = adapter_of("lora", scaling=scaling, ranks=(7,))
    write_adapter(tmp_path / "adapter", adapter, base_model="some/model")
    check_same(read_adapter(tmp_path / "adapter"), adapter)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 7
    assert config["base_model_name_or_path"] == "some/model"
    assert sorted(config["target_modules"]) == sorted(MODULES)


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("fusion", "lora", {}),
        ("fusion", "dora", {}),
        ("fusion", "hira", {}),
        ("ensemble", "lora", {}),
        ("ensemble", "hira", {}),
        ("ensemble", "dora", {"rank": 5}),
        ("lora-lego", "lora", {"k": 4}),
        ("lora-lego", "hira", {"k": 2}),
    ],
)
def test_a_merged_adapter_comes_back_and_peft_computes_with_it(tmp_path, name, kind, settings):
    pair = [adapter_of(kind, seed) for seed in (1, 2)]
    merged = OPERATORS[name](pair, [0.5, 0.5], BASE, settings)
    write_adapter(tmp_path / "merged", merged.adapter)
    check_same(read_adapter(tmp_path / "merged"), merged.adapter)
    check_outputs(tmp_path / "merged", merged.adapter)


def test_only_the_named_modules_are_adapted(tmp_path):
    part = {name: f for name, f in adapter_of("lora").modules.items() if "layer.1" in name}
    adapter = LowRankAdapter("lora", 2.0, part, {})
    write_adapter(tmp_path / "adapter", adapter)
    loaded = PeftModel.from_pretrained(bert(), tmp_path / "adapter")
    adapted = {name for name, _ in loaded.named_parameters() if "lora_" in name}
    assert len(adapted) == 2 * len(part)
    check_outputs(tmp_path / "adapter", adapter)


def test_views_and_shared_tensors_are_written(tmp_path):
    whole = torch.randn(HIDDEN, HIDDEN)
    shared = Factors(a=whole[:2], b=whole.T[:, :2])
    adapter = LowRankAdapter("lora", 1.0, dict.fromkeys(MODULES, shared), {})
    write_adapter(tmp_path / "adapter", adapter)
    check_same(read_adapter(tmp_path / "adapter"), adapter)


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "deep" / "adapter"
    write_adapter(folder, adapter_of("dora"))
    (folder / "old").touch()
    write_adapter(folder, adapter_of("lora"))
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    broken = adapter_of("lora", seed=1)
    broken.heads["classifier.bias"] = None  # what no file can hold
    with pytest.raises(AttributeError):
        write_adapter(folder, broken)
    check_same(read_adapter(folder), adapter_of("lora"))
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]


def test_an_adapter_of_nothing_is_refused(tmp_path):
    with pytest.raises(CotoError, match="no modules: expected one or more"):
        write_adapter(tmp_path / "adapter", LowRankAdapter("lora", 1.0, {}, {}))
    assert not list(tmp_path.iterdir())


def change_config(folder, **settings):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def saved(folder, **settings):
    """An adapter with random weights that PEFT made and saved, and the logits of its model."""
    torch.manual_seed(5)
    settings = {"r": 4, "target_modules": ["query", "value"], "init_lora_weights": False} | settings
    model = get_peft_model(bert(), LoraConfig(**settings))
    model.save_pretrained(folder)
    if not settings["init_lora_weights"]:  # random for this test: what training leaves
        change_config(folder, init_lora_weights=True)
    return logits(model)


@pytest.mark.parametrize("kind", [{}, {"use_dora": True}, {"use_rslora": True}])
@pytest.mark.parametrize(
    "patterns",
    [
        {},
        {"alpha_pattern": {"query": 50}},
        {
            "rank_pattern": {
                r"layer\.1\.attention\.self\.query": 2,
                "layer.0.attention.self.value": 8,
            }
        },
        {"rank_pattern": {"value": 2}, "alpha_pattern": {r".*layer\.[02]\..*": 3}},
    ],
)
def test_modules_with_a_rank_or_alpha_of_their_own_are_read_as_peft_computes(
    tmp_path, kind, patterns
):
    expected = saved(tmp_path, **kind, **patterns)
    adapter = read_adapter(tmp_path)
    assert adapter.kind == ("dora" if "use_dora" in kind else "lora")
    with changed(bert(), deltas(adapter, BASE), adapter.heads) as model:
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)


def test_a_classifiers_head_is_read(tmp_path):
    saved(tmp_path, task_type="SEQ_CLS")
    assert read_adapter(tmp_path).heads.keys() == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bias": "lora_only"}, "bias = 'lora_only': expected 'none'"),
        ({"lora_bias": True}, "lora_bias = True: expected False"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa': expected True"),
        ({"trainable_token_indices": {"word_embeddings": [1]}}, "trainable_token_indices = "),
        ({"target_modules": ["query", "word_embeddings"]}, "lora_embedding_A.: expected a part of"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out = True: expected False"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication = "),
        ({"of_a_later_peft": True}, "of_a_later_peft = True: expected None"),
        ({"peft_type": "LOHA"}, "peft_type = 'LOHA': expected one of HIRA, LORA"),
    ],
)
def test_what_changes_weights_in_a_way_that_is_not_read_is_refused(tmp_path, settings, message):
    if settings.keys() & {"fan_in_fan_out", "layer_replication", "of_a_later_peft", "peft_type"}:
        saved(tmp_path)
        change_config(tmp_path, **settings)
    else:
        saved(tmp_path, **settings)
    with pytest.raises(CotoError, match=message) as caught:
        read_adapter(tmp_path)
    assert "\n" not in str(caught.value)
