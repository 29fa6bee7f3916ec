"""The fast path against the plain one: same gradients, and nothing left behind."""

import pytest
import torch
from small import LANGUAGE, NAMES, adapted, batch, gradients
from torch import nn

from coto.device import Compute
from coto.fast.answers import IGNORED, read
from coto.fast.prepare import prepared
from coto.models.causal.choice import learn_choices
from coto.models.settings import Fast

FP32, BF16 = (Compute(torch.device("cpu"), dtype) for dtype in (torch.float32, torch.bfloat16))
OFF = Fast.model_validate(dict.fromkeys(Fast.model_fields, False))
SWITCHES = [*Fast.model_fields, "all"]


def only(switch: str) -> Fast:
    return Fast() if switch == "all" else OFF.model_copy(update={switch: True})


@pytest.fixture(scope="module", params=NAMES)
def case(request, tmp_path_factory):
    """A model's name, the model and the plain path's gradients."""
    model = adapted(request.param, tmp_path_factory.mktemp("models"))
    return request.param, model, gradients(model, batch(request.param))


@pytest.mark.parametrize("switch", SWITCHES)
def test_gradients_are_the_plain_paths(case, switch):
    name, model, (loss, expected) = case
    with prepared(model, only(switch), FP32):
        fast_loss, fast = gradients(model, batch(name))
    assert fast_loss == pytest.approx(loss, rel=1e-5)
    assert fast.keys() == expected.keys()
    for parameter, gradient in expected.items():
        scale = max(gradient.norm().item(), 1e-3)
        assert (fast[parameter] - gradient).norm() < 1e-5 * scale, parameter


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_model_comes_back_as_it_was(case, switch):
    name, model, plain = case
    before = {key: value.clone() for key, value in model.state_dict().items()}
    kinds = [type(module) for module in model.modules()]
    own = set(vars(model))
    with prepared(model, only(switch), BF16):
        assert model.state_dict().keys() == before.keys()
        with BF16.autocast():
            gradients(model, batch(name))
    assert [type(module) for module in model.modules()] == kinds
    assert set(vars(model)) == own
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(after[key].dtype == value.dtype for key, value in before.items())
    loss, again = gradients(model, batch(name))
    assert loss == plain[0]
    assert all(torch.equal(again[key], value) for key, value in plain[1].items())


def test_an_interrupted_training_leaves_nothing_behind(case):
    name, model, (loss, _) = case
    with pytest.raises(KeyboardInterrupt), prepared(model, Fast(), BF16):
        raise KeyboardInterrupt
    assert gradients(model, batch(name))[0] == loss


def rows_of(model: nn.Module, module: nn.Module, name: str, fast: Fast) -> int:
    """Rows, over batch and tokens, that a module computes in one pass."""
    seen: list[int] = []
    hook = module.register_forward_hook(lambda _, args, out: seen.append(out[..., 0].numel()))
    with prepared(model, fast, FP32):
        model(**batch(name))
    hook.remove()
    return seen[-1]


LAST = {
    "bert": ("bert.encoder.layer.1.output.dense", 4 * 9, 4),
    "bert-sdpa": ("bert.encoder.layer.1.output.dense", 4 * 9, 4),
    "roberta": ("roberta.encoder.layer.1.output.dense", 4 * 9, 4),
    "llama": ("model.layers.1.mlp.down_proj", 4 * 9, 4 * 4),
    "llama-sdpa": ("model.layers.1.mlp.down_proj", 4 * 9, 4 * 4),
    "llama-packed": ("model.layers.1.mlp.down_proj", 4 * 9, 4 * 3),
    "vit": ("vit.blocks.2.mlp.fc2", 4 * (9 + 1), 4),
    "clip": ("clip.vision_model.encoder.layers.1.mlp.fc2", 4 * 5, 4),
}


def test_the_last_block_computes_only_what_is_read(case):
    name, model, _ = case
    path, all_of_them, few = LAST[name]
    module = model.get_base_model().get_submodule(path)
    assert rows_of(model, module, name, OFF) == all_of_them
    assert rows_of(model, module, name, only("last_block")) == few


def test_prompts_of_clip_are_read_at_their_ends(tmp_path):
    model = adapted("clip", tmp_path)
    plain = model.get_base_model()
    module = plain.clip.text_model.encoder.layers[1].mlp.fc2
    classes, tokens = plain.prompts.shape
    assert rows_of(model, module, "clip", OFF) == classes * tokens
    assert rows_of(model, module, "clip", only("last_block")) == classes


@pytest.mark.parametrize("switch", ["last_block", "answer_logits", "all"])
def test_logits_are_computed_at_answers_only(tmp_path, switch):
    model = adapted("llama", tmp_path)
    head = model.get_base_model().lm_head
    assert rows_of(model, head, "llama", OFF) == 4 * 9
    assert rows_of(model, head, "llama", only(switch)) == 4 * 4  # the longest answer has four


def test_read_tokens_come_before_what_they_predict():
    labels = torch.tensor([[IGNORED, 5, 6, IGNORED], [IGNORED, IGNORED, IGNORED, 7]])
    tokens = read(labels, width=6)  # labels of the last four of six
    assert tokens.positions[0].tolist() == [2, 3]
    assert tokens.positions[1, 0] == 4
    assert tokens.labels.tolist() == [[5, 6], [7, IGNORED]]


@pytest.mark.parametrize("name", ["llama", "llama-sdpa"])
def test_a_choice_among_candidates_reads_the_last_token_of_the_prompt(tmp_path, name):
    model = adapted(name, tmp_path)
    learn_choices(model.get_base_model())
    inputs = batch(name) | {
        "candidates": torch.tensor([[5, 6], [7, 8], [5, 9], [3, 4]]),
        "labels": torch.tensor([[IGNORED, 0], [IGNORED, 1], [IGNORED, 0], [IGNORED, 1]]),
    }
    module = model.get_base_model().get_submodule(LAST[name][0])
    seen: list[int] = []
    module.register_forward_hook(lambda _, args, out: seen.append(out.shape[1]))
    loss, expected = gradients(model, inputs)
    with prepared(model, Fast(), FP32):
        fast_loss, fast = gradients(model, inputs)
    assert seen == [9, 1]
    assert fast_loss == pytest.approx(loss, rel=1e-5)
    for parameter, gradient in expected.items():
        scale = max(gradient.norm().item(), 1e-3)
        assert (fast[parameter] - gradient).norm() < 1e-5 * scale, parameter


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_model_without_labels_gives_all_logits(tmp_path, name):
    model = adapted(name, tmp_path)
    inputs = {key: value for key, value in batch(name).items() if key != "labels"}
    with torch.no_grad():
        expected = model(**inputs).logits
        with prepared(model, Fast(), FP32):
            torch.testing.assert_close(model(**inputs).logits, expected)


@pytest.mark.parametrize("name", ["bert", "llama", "vit", "clip"])
def test_a_block_with_dropout_is_computed_whole(tmp_path, name):
    model = adapted(name, tmp_path, dropout=0.5)
    inputs = batch(name)
    torch.manual_seed(7)
    loss, expected = gradients(model, inputs)
    with prepared(model, only("last_block"), FP32):
        torch.manual_seed(7)
        fast_loss, fast = gradients(model, inputs)
    assert fast_loss == loss
    assert all(torch.equal(fast[key], value) for key, value in expected.items())


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_gradient_checkpointing_recomputes_the_same_block(tmp_path, name):
    model = adapted(name, tmp_path)
    _, expected = gradients(model, batch(name))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with prepared(model, Fast(), FP32):
        _, fast = gradients(model, batch(name))
    for parameter, gradient in expected.items():
        assert (fast[parameter] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, parameter


# --- bf16 ----------------------------------------------------------------------------------------


def half(model: nn.Module, name: str, fast: Fast) -> tuple[float, dict[str, torch.Tensor]]:
    with prepared(model, fast, BF16), BF16.autocast():
        return gradients(model, batch(name))


def test_weights_cast_once_give_what_autocast_gives(case):
    name, model, (loss, _) = case
    auto_loss, expected = half(model, name, OFF)
    fast_loss, fast = half(model, name, only("cast_once"))
    assert fast_loss == auto_loss
    assert all(torch.equal(fast[key], value) for key, value in expected.items())
    assert half(model, name, Fast())[0] == pytest.approx(loss, rel=0.05, abs=0.02)


def test_what_is_cast_and_what_is_not(case):
    _, model, _ = case
    with prepared(model, only("cast_once"), BF16):
        cast = {n for n, p in model.named_parameters() if p.dtype == torch.bfloat16}
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert cast
    assert not cast & trained
    assert any("base_layer.weight" in parameter for parameter in cast)
    assert not [n for n in cast if "norm" in n.lower() or ("embeddings" in n and "patch" not in n)]


def test_weights_that_an_adapter_reads_stay_in_fp32(tmp_path):
    model = adapted("bert", tmp_path, use_dora=True)
    expected = half(model, "bert", OFF)
    with prepared(model, only("cast_once"), BF16):
        assert all(
            parameter.dtype == torch.float32
            for name, parameter in model.named_parameters()
            if "base_layer" in name
        )
    found = half(model, "bert", only("cast_once"))
    assert found[0] == expected[0]
    assert all(torch.equal(found[1][key], value) for key, value in expected[1].items())


def test_tied_weights_are_not_cast(tmp_path):
    model = adapted("llama", tmp_path)
    plain = model.get_base_model()
    plain.lm_head.weight = plain.model.embed_tokens.weight
    with prepared(model, only("cast_once"), BF16):
        assert plain.model.embed_tokens.weight.dtype == torch.float32
        assert plain.model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.bfloat16
