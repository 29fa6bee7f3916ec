"""Models whose projections are computed fast, against PEFT's own forward and backward passes."""

import copy
from unittest.mock import patch

import peft
import pytest
import torch
from peft import PeftModel
from small import adapted, batch, gradients, plain
from torch import nn

from coto import AdapterGate
from coto.fast import projections
from coto.fast.projections import fast_projections
from coto.method.gate import adapter_layers

MODELS = ("bert", "llama", "vit", "clip")
KINDS = ("lora", "dora", "hira")
# Joint products in a model, one per attention, and one per gated MLP.
JOINT = {"bert": 2, "llama": 4, "vit": 3, "clip": 4}


def fast(model, products=True, joint=True):
    return fast_projections(model, products=products, joint=joint)


def products_of(model, inputs, **switches):
    """Loss and gradients, and how many adapters each of our products had."""
    counts = []
    ours = projections.adapted_product

    def count(x, weight, bias, parts):
        counts.append(len(parts))
        return ours(x, weight, bias, parts)

    with patch.object(projections, "adapted_product", count), fast(model, **switches):
        return gradients(model, inputs), counts


def assert_same(found, expected, tolerance=1e-5):
    (loss, fast_gradients), (plain_loss, plain_gradients) = found, expected
    assert loss == pytest.approx(plain_loss, rel=tolerance)
    assert fast_gradients.keys() == plain_gradients.keys()
    # A gradient that is small beside the others is a small difference of large numbers.
    least = 0.01 * max(gradient.norm().item() for gradient in plain_gradients.values())
    for name, gradient in plain_gradients.items():
        scale = max(gradient.norm().item(), least)
        assert (fast_gradients[name] - gradient).norm() <= tolerance * scale, name


@pytest.fixture(scope="module", params=[(name, kind) for name in MODELS for kind in KINDS])
def case(request, tmp_path_factory):
    name, kind = request.param
    return name, adapted(name, tmp_path_factory.mktemp("models"), kind=kind)


def masks(groups, count=2):
    """All on, the last one, and random ones with at least one on."""
    draw = torch.Generator().manual_seed(3)
    found = [torch.ones(groups), torch.arange(groups) == groups - 1]
    for _ in range(count):
        found.append(torch.randint(0, 2, (groups,), generator=draw))
        found[-1][torch.randint(groups, (), generator=draw)] = 1
    return [flags.bool().numpy() for flags in found]


@pytest.mark.parametrize("switches", [{}, {"joint": False}, {"products": False}])
@pytest.mark.parametrize("unit", ["block", "module"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_gradients_under_random_masks_are_those_of_peft(case, unit, switches, dtype, tolerance):
    name, model = case
    if dtype == torch.float64:
        model = copy.deepcopy(model).double()
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch(name).items()}
    with AdapterGate(model, unit) as gate:
        for flags in masks(len(gate)):
            gate.set(flags)
            expected = gradients(model, inputs)
            found, counts = products_of(model, inputs, **switches)
            assert_same(found, expected, tolerance)
            products = switches.get("products", True)
            active = sum(
                len(names) for on, names in zip(flags, gate.groups.values(), strict=True) if on
            )
            assert sum(counts) == (active if products else 0)  # each adapter once, and by us


def test_queries_keys_and_values_are_one_product(case):
    name, model = case
    layers = len(list(adapter_layers(model)))
    _, counts = products_of(model, batch(name))
    by_three = 2 if name == "llama" else 0
    assert len(counts) == layers - 2 * JOINT[name] + (JOINT[name] // 2 if by_three else 0)


def test_all_off_is_disable_adapter(case):
    name, model = case
    inputs = {key: value for key, value in batch(name).items() if key != "labels"}
    with torch.no_grad(), model.disable_adapter():
        expected = model(**inputs).logits
    with fast(model), torch.no_grad():
        with model.disable_adapter():
            torch.testing.assert_close(model(**inputs).logits, expected)
        with AdapterGate(model) as gate:
            gate.set([False] * len(gate))
            torch.testing.assert_close(model(**inputs).logits, expected)
        assert not torch.allclose(model(**inputs).logits, expected, rtol=1e-3)


def test_evaluation_keeps_no_graph_and_copies_compute_the_same(case):
    name, model = case
    inputs = batch(name)
    with torch.no_grad():
        expected = model.eval()(**inputs).logits
        with fast(model):
            out = model(**inputs).logits
            clone = copy.deepcopy(model)
            assert not out.requires_grad
            torch.testing.assert_close(out, expected)
            with torch.no_grad():
                for parameter in clone.parameters():
                    parameter.zero_()
            torch.testing.assert_close(model(**inputs).logits, expected)  # nothing is shared
            assert not torch.allclose(clone(**inputs).logits, expected)
    model.train()


def test_names_weights_and_forwards_come_back(case):
    name, model = case
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected = gradients(model, batch(name))
    with fast(model):
        inside = model.state_dict()
        assert inside.keys() == before.keys()
        assert all(torch.equal(inside[key], value) for key, value in before.items())
        gradients(model, batch(name))
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not [name for name, module in model.named_modules() if "forward" in vars(module)]
    weights = [value for key, value in after.items() if value.ndim]
    assert all(w.untyped_storage().nbytes() == w.numel() * w.element_size() for w in weights)
    loss, again = gradients(model, batch(name))
    assert loss == expected[0]
    assert all(torch.equal(again[key], value) for key, value in expected[1].items())


def test_an_adapter_trained_fast_is_a_plain_one(case, tmp_path):
    name, model = case
    model, inputs = copy.deepcopy(model), batch(name)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.01)
    with fast(model):
        for _ in range(2):
            optimizer.zero_grad()
            model(**inputs).loss.backward()
            optimizer.step()
        model.save_pretrained(tmp_path / "adapter")
        with torch.no_grad():
            expected = model.eval()(**inputs).logits
    loaded = PeftModel.from_pretrained(plain(name, tmp_path), tmp_path / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, expected)


def test_below_the_lowest_active_block_nothing_is_kept(case):
    name, model = case
    if name == "clip":
        pytest.skip("two encoders")
    kept, below = [], []
    with AdapterGate(model) as gate:
        numbered = [group for group in gate.groups if group[-1].isdigit()]
        gate.set([group == numbered[-1] for group in gate.groups])
        blocks = [model.get_submodule(group) for group in numbered[:-1]]
        handles = [
            block.register_forward_hook(lambda *_: below.append(len(kept))) for block in blocks
        ]
        with (
            fast(model),
            torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
        ):
            model(**batch(name))
    for handle in handles:
        handle.remove()
    assert below == [0] * len(blocks)
    assert kept


def test_no_dense_change_of_a_weight_is_kept(case):
    name, model = case
    weights = {tuple(layer.get_base_layer().weight.shape) for _, layer in adapter_layers(model)}
    kept = []
    with fast(model):
        known = {p.untyped_storage().data_ptr() for p in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            model(**batch(name))
        made = [tuple(t.shape) for t in kept if t.untyped_storage().data_ptr() not in known]
    assert made
    assert not weights & {shape for shape in made if len(shape) == 2}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_gradient_checkpointing_works(name, reentrant, tmp_path):
    model = adapted(name, tmp_path, kind="dora")
    with AdapterGate(model) as gate:
        for flags in masks(len(gate)):
            gate.set(flags)
            expected = gradients(model, batch(name))
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            with fast(model):
                assert_same(gradients(model, batch(name)), expected)
            model.gradient_checkpointing_disable()


# --- what is left to PEFT ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_dropout": 0.3},
        {"lora_bias": True},
        {"bias": "all"},
        {"use_dora": True, "lora_dropout": 0.3},
        {"use_dora": True, "bias": "lora_only"},
    ],
)
def test_what_is_not_known_is_computed_by_peft(settings, tmp_path):
    model = adapted("bert", tmp_path, **settings)
    torch.manual_seed(5)
    expected = gradients(model, batch("bert"))
    torch.manual_seed(5)
    found, counts = products_of(model, batch("bert"))
    assert found[0] == expected[0]
    assert all(torch.equal(found[1][key], value) for key, value in expected[1].items())
    assert not counts


def test_dropout_is_none_in_evaluation(tmp_path):
    model = adapted("bert", tmp_path, lora_dropout=0.3).eval()
    expected = gradients(model, batch("bert"))
    found, counts = products_of(model, batch("bert"))
    assert_same(found, expected)
    assert sum(counts) == len(list(adapter_layers(model)))


def test_other_tuners_are_left_alone(tmp_path):
    config = peft.LoHaConfig(r=2, target_modules=["query", "value"], init_weights=False)
    model = peft.get_peft_model(plain("bert", tmp_path), config).train()
    expected = gradients(model, batch("bert"))
    found, counts = products_of(model, batch("bert"))
    assert_same(found, expected, 0.0)
    assert not counts


def test_two_active_adapters_are_left_to_peft(tmp_path):
    model = adapted("bert", tmp_path)
    model.add_adapter(
        "second", peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    )
    model.base_model.set_adapter(["default", "second"])
    expected = gradients(model, batch("bert"))
    found, _ = products_of(model, batch("bert"))
    assert_same(found, expected)
    assert any("second" in name for name in found[1])


def test_merged_adapters_count(tmp_path):
    model = adapted("bert", tmp_path)
    inputs = batch("bert")
    with torch.no_grad():
        expected = model(**inputs).logits
        with fast(model):
            model.merge_adapter()
            torch.testing.assert_close(model(**inputs).logits, expected)
            model.unmerge_adapter()
            torch.testing.assert_close(model(**inputs).logits, expected)


@pytest.mark.parametrize("watched", ["base_layer", "lora_A.default"])
def test_hooks_inside_a_layer_are_called(watched, tmp_path):
    model, seen = adapted("bert", tmp_path), []
    query = model.base_model.model.bert.encoder.layer[0].attention.self.query
    query.get_submodule(watched).register_forward_hook(lambda *_: seen.append(1))
    expected = gradients(model, batch("bert"))
    with fast(model):
        assert_same(gradients(model, batch("bert")), expected)
    assert len(seen) == 2


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_hooks_of_a_layer_see_its_output(name, tmp_path):
    model, seen = adapted(name, tmp_path), []
    layer = dict(adapter_layers(model))[
        {"bert": "base_model.model.bert.encoder.layer.0.attention.self.query"}.get(
            name, "base_model.model.vit.blocks.0.attn.qkv.q"
        )
    ]
    layer.register_forward_hook(lambda _, args, out: seen.append(out))
    gradients(model, batch(name))
    with fast(model):
        gradients(model, batch(name))
    torch.testing.assert_close(seen[1], seen[0])


def test_a_layer_called_alone_or_with_another_input(tmp_path):
    model = adapted("bert", tmp_path)
    attention = model.base_model.model.bert.encoder.layer[0].attention.self
    x, y = torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    expected = attention.query(x), attention.key(y)

    class Crossed(type(attention)):
        def forward(self, q, k):
            return self.query(q), self.key(k)

    attention.__class__ = Crossed
    with fast(model):
        torch.testing.assert_close((attention.query(x), attention.key(y)), expected)
        for _ in range(2):
            torch.testing.assert_close(attention(x, y), expected)


@pytest.mark.parametrize("interrupt", [RuntimeError, KeyboardInterrupt])
def test_an_exception_inside_leaves_nothing_behind(interrupt, tmp_path):
    model = adapted("bert", tmp_path)
    inputs = batch("bert")
    expected = gradients(model, inputs)
    key = model.base_model.model.bert.encoder.layer[0].attention.self.key

    def fail(*_):
        raise interrupt

    with fast(model):
        handle = key.register_forward_pre_hook(fail)
        with pytest.raises(interrupt):
            model(**inputs)
        handle.remove()
        assert_same(gradients(model, inputs), expected)


def test_a_weight_given_to_a_layer_meanwhile_is_the_one_used(tmp_path):
    model = adapted("bert", tmp_path)
    inputs = batch("bert")
    query = model.base_model.model.bert.encoder.layer[0].attention.self.query
    with torch.no_grad(), fast(model):
        query.base_layer.weight.data = torch.zeros_like(query.base_layer.weight)
        found = model(**inputs).logits
    with torch.no_grad():
        assert not query.base_layer.weight.any()
        torch.testing.assert_close(model(**inputs).logits, found)


@pytest.mark.parametrize("bf16", [False, True])
def test_weights_in_bf16_with_factors_in_fp32(case, bf16):
    name, model = case
    casts = torch.autocast("cpu", torch.bfloat16)
    exact = gradients(model, batch(name))[1]
    with casts:
        expected = gradients(model, batch(name))[1]
    model = copy.deepcopy(model)
    if bf16:
        for module in model.modules():
            if type(module) is nn.Linear and not module.weight.requires_grad:
                module.to(torch.bfloat16)
    with fast(model), casts:
        found = gradients(model, batch(name))[1]

    def error(gradients_):
        total = torch.cat([g.flatten() for g in exact.values()])
        return (torch.cat([g.flatten() for g in gradients_.values()]) - total).norm() / total.norm()

    assert all(found[key].dtype == value.dtype for key, value in exact.items())
    assert error(found) <= 2 * error(expected) + 0.01


def test_nothing_is_to_do_without_switches(tmp_path):
    model = adapted("bert", tmp_path)
    with fast(model, products=False, joint=False):
        assert not [1 for module in model.modules() if "forward" in vars(module)]
