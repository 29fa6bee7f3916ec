"""Products with adapted weights against PEFT's layers: outputs, gradients, what is kept."""

from dataclasses import replace

import peft
import pytest
import torch
from torch import nn

from coto.fast import changed
from coto.fast.changed import Part, squares
from coto.fast.products import adapted_product, forming_pays

IN, OUT = 24, 40
KINDS = ("lora", "dora", "hira")
TOKENS = (3, 70)  # few: thin products; many: the changed weight is made
assert [forming_pays(n, IN, OUT, OUT) for n in TOKENS] == [False, True]


@pytest.fixture(params=[None, 7])
def pieces(request, monkeypatch):
    """The whole weight at once, or a few rows at a time."""
    if request.param is not None:
        monkeypatch.setattr(changed, "PIECE", {"cpu": 1})
        monkeypatch.setattr(changed, "LEAST_ROWS", request.param)


def peft_layer(kind, bias=True, seed=0, width=IN, out=OUT):
    torch.manual_seed(seed)
    plain = nn.Sequential(nn.Linear(width, out, bias=bias))
    if kind == "hira":
        config = peft.HiraConfig(r=4, target_modules=["0"])
    else:
        config = peft.LoraConfig(r=4, lora_alpha=12, use_dora=kind == "dora", target_modules=["0"])
    layer = peft.get_peft_model(plain, config).base_model.model[0]
    for name, parameter in layer.named_parameters():
        if "magnitude" in name:
            parameter.data.mul_(1 + torch.rand_like(parameter))
        elif parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    return layer


def part_of(layer, kind, start=0):
    weight = layer.base_layer.weight
    rows = slice(start, start + len(weight))
    if kind == "hira":
        return Part(rows, layer.hira_A["default"], layer.hira_B["default"], masked=True)
    part = Part(rows, layer.lora_A["default"].weight, layer.lora_B["default"].weight, 3.0)
    if kind == "lora":
        return part
    magnitude = layer.lora_magnitude_vector["default"].weight
    return replace(part, magnitude=magnitude, square=squares(weight))


def trained(layer):
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


def assert_close(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_peft(kind, tokens, bias, pieces):
    layer = peft_layer(kind, bias)
    x, dy = torch.randn(1, tokens, IN, requires_grad=True), torch.randn(1, tokens, OUT)
    expected = layer(x)
    found = adapted_product(
        x, layer.base_layer.weight, layer.base_layer.bias, [part_of(layer, kind)]
    )
    assert_close([found], [expected], 1e-5)
    wanted = [x, *trained(layer)]
    assert_close(
        torch.autograd.grad(found, wanted, dy), torch.autograd.grad(expected, wanted, dy), 1e-5
    )


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize(
    "kinds",
    [("lora", None, "lora"), ("dora", "dora", None), ("hira", "lora", "dora"), (None, "hira")],
)
def test_row_blocks_of_one_weight_have_adapters_of_their_own(kinds, tokens, pieces):
    layers = [peft_layer(kind or "lora", True, i, out=8 * (i + 1)) for i, kind in enumerate(kinds)]
    for layer, kind in zip(layers, kinds, strict=True):
        layer.enable_adapters(kind is not None)
    x = torch.randn(tokens, IN, requires_grad=True)
    expected = torch.cat([layer(x) for layer in layers], -1)
    parts, wanted, start = [], [x], 0
    for layer, kind in zip(layers, kinds, strict=True):
        if kind is not None:
            parts.append(part_of(layer, kind, start))
            wanted += trained(layer)
        start += layer.out_features
    weight = torch.cat([layer.base_layer.weight for layer in layers])
    bias = torch.cat([layer.base_layer.bias for layer in layers])
    found = adapted_product(x, weight, bias, parts)
    assert_close([found], [expected], 1e-5)
    dy = torch.randn_like(found)
    wanted = [
        x,
        *(p for layer, kind in zip(layers, kinds, strict=True) if kind for p in trained(layer)),
    ]
    assert_close(
        torch.autograd.grad(found, wanted, dy), torch.autograd.grad(expected, wanted, dy), 1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_needs_a_gradient_gets_one(kind):
    layer = peft_layer(kind)
    part = part_of(layer, kind)
    weight, bias = layer.base_layer.weight, layer.base_layer.bias
    x = torch.randn(5, IN)
    adapted_product(x, weight, bias, [part]).sum().backward()
    assert all(parameter.grad is not None for parameter in trained(layer))
    for parameter in trained(layer):
        parameter.requires_grad_(False)
    x.requires_grad_()
    adapted_product(x, weight, bias, [part]).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        assert not adapted_product(x, weight, bias, [part]).requires_grad


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_changed_weight_is_kept_for_the_backward_pass(kind, tokens):
    layer = peft_layer(kind)
    x, kept = torch.randn(tokens, IN, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        adapted_product(x, layer.base_layer.weight, layer.base_layer.bias, [part_of(layer, kind)])
    known = {t.data_ptr() for t in (x, *layer.parameters())}
    made = [tuple(t.shape) for t in kept if t.data_ptr() not in known]
    # DoRA: the outputs before the magnitude, and the norms.
    assert made == ([(tokens, OUT), (OUT,)] if kind == "dora" else [])


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("kind", KINDS)
def test_bf16_is_as_close_as_peft_is_under_autocast(kind, tokens, autocast):
    layer = peft_layer(kind)
    x, dy = torch.randn(tokens, IN), torch.randn(tokens, OUT)
    weight, bias, part = layer.base_layer.weight, layer.base_layer.bias, part_of(layer, kind)

    def run(product):
        own = x.clone().requires_grad_()
        y = product(own)
        return [y, *torch.autograd.grad(y, [own, *trained(layer)], dy.to(y.dtype))]

    exact = run(layer)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run(layer)
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            found = run(lambda own: adapted_product(own, weight, bias, [part]))
    else:
        half = weight.to(torch.bfloat16), bias.to(torch.bfloat16)
        found = run(lambda own: adapted_product(own, *half, [part]))
    assert found[0].dtype == torch.bfloat16
    for ours, theirs, true in zip(found, rounded, exact, strict=True):
        scale = true.norm()
        error = (ours - true).norm() / scale
        assert error <= max(0.01, 1.5 * (theirs - true).norm() / scale)


def test_bf16_does_not_lose_a_change_that_is_smaller_than_a_weights_last_place():
    layer = peft_layer("lora")
    weight = layer.base_layer.weight.to(torch.bfloat16)
    a, b = (p.detach() * 0.01 for p in trained(layer))
    assert torch.equal((weight + (3e-3 * b @ a)).to(torch.bfloat16), weight)
    part = Part(slice(0, OUT), a, b, 3e-3)
    x = torch.randn(70, IN)
    zero = torch.zeros_like(weight)
    found = adapted_product(x, zero, None, [part])
    assert_close([found.float()], [3e-3 * x @ (b @ a).T], 0.02)


def test_factors_that_changed_before_the_backward_pass_are_an_error():
    layer = peft_layer("lora")
    x = torch.randn(5, IN)
    y = adapted_product(x, layer.base_layer.weight, None, [part_of(layer, "lora")])
    with torch.no_grad():
        layer.lora_A["default"].weight.mul_(2)
    with pytest.raises(RuntimeError, match="inplace operation"):
        y.sum().backward()
