"""Whole trainings on the fast path: the plain one's adapter, and an exact resume."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import TrainerCallback

from coto.device import Compute
from coto.measurements.train import Settings
from coto.measurements.training import Trained, add_adapter, fit
from coto.models.base import TaskModel, TrainingSet, load_model
from coto.models.settings import Fast
from coto.tasks.registry import TASKS
from tests.measurements.conftest import job_of, plan_of
from tests.models import small_causal, small_vision

FP32, BF16 = (Compute(torch.device("cpu"), dtype) for dtype in (torch.float32, torch.bfloat16))
OFF = dict.fromkeys(Fast.model_fields, False)
STEPS = 12


class Stop(TrainerCallback):
    """Ends a training as a signal would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


class Case:
    """A small model of one family and its rows, trained with CoTo."""

    def __init__(self, family: str, folder: Path) -> None:
        self.family = family
        task, suite = {
            "encoder": ("movies", "glue"),
            "causal": ("snippets", "commonsense"),
            "vit": ("digits", "images"),
        }[family]
        train = {"steps": STEPS, "checkpoint_every": 5, "batch_size": 4, "backbone_dropout": 0.0}
        train |= {"loss_on": "answer"} if family == "causal" else {}
        plan = plan_of(suites={suite: {"train": train}})
        cell = {"suite": suite, "task": task, "adapter": "lora", "strategy": "coto"}
        settings = job_of(folder, plan, "train", **cell, lr="0.004", seed=0).settings
        assert isinstance(settings, Settings)
        if family == "causal":
            small_causal.save(folder / "model")
            backbone = small_causal.backbone(folder / "model")
            self.rows = small_causal.rows(count=24)
        elif family == "vit":
            small_vision.write_vit(folder / "model", arguments={"embed_dim": 16, "num_heads": 2})
            backbone = small_vision.backbone("vit", path=str(folder / "model"))
            self.rows = small_vision.pictures(per_class=8)
        else:
            backbone = settings.loading.backbone
            self.rows = words()
        names = {"projections": settings.loading.backbone.projections}
        backbone = backbone.model_copy(update=names)
        loading = settings.loading.model_copy(update={"backbone": backbone, "head": "linear"})
        self.settings = settings.model_copy(update={"loading": loading})
        self.task = TASKS[task]

    def fit(self, folder: Path, compute: Compute, *stops: Stop, **fast: bool) -> Trained:
        train = self.settings.train.model_copy(update={"fast": Fast(**fast)})
        loading = self.settings.loading.model_copy(update={"train": train})
        settings = self.settings.model_copy(update={"loading": loading})
        model: TaskModel = load_model(loading, compute, seed=0)
        model.set_task(self.task, self.rows)
        data = model.training_set(self.task, self.rows)
        data = TrainingSet(**{**vars(data), "callbacks": (*data.callbacks, *stops)})
        return fit(add_adapter(model, settings, seed=0), data, settings, compute, folder)


def words() -> pd.DataFrame:
    """Short texts of several lengths."""
    said = ["fine", "dull", "great", "poor"]
    texts = [f"a {said[i % 4]} film {'indeed ' * (i % 5)}" for i in range(24)]
    return pd.DataFrame({"text": texts, "label": [i % 2 for i in range(24)], "idx": range(24)})


@pytest.fixture(scope="module", params=["encoder", "causal", "vit"])
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp(request.param))


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in trained.model.named_parameters() if p.requires_grad}


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("compute", [FP32, BF16], ids=["fp32", "bf16"])
def test_a_killed_training_goes_on_to_the_same_adapter(case, tmp_path, compute):
    whole = weights(case.fit(tmp_path / "whole", compute))
    with pytest.raises(KeyboardInterrupt):
        case.fit(tmp_path / "killed", compute, Stop(8))
    assert (tmp_path / "killed/checkpoint-5").is_dir()
    resumed = case.fit(tmp_path / "killed", compute)
    assert same(weights(resumed), whole)


def test_the_fast_path_trains_what_the_plain_one_trains(case, tmp_path):
    plain, fast = case.fit(tmp_path / "plain", FP32, **OFF), case.fit(tmp_path / "fast", FP32)
    # Early steps of Adam are about the sign of gradients: rounding decides where they are zero.
    assert fast.summary["loss"] == pytest.approx(plain.summary["loss"], rel=1e-3)
    assert fast.summary["steps"] == plain.summary["steps"] == STEPS


@pytest.mark.parametrize("switch", ["lean_steps", "cast_once"])
def test_what_changes_no_product_trains_the_same_bits(case, tmp_path, switch):
    plain = case.fit(tmp_path / "plain", BF16, **OFF)
    fast = case.fit(tmp_path / "fast", BF16, **OFF | {switch: True})
    assert same(weights(fast), weights(plain))
    assert fast.summary["loss"] == plain.summary["loss"]
    assert fast.gradients == plain.gradients


def test_bf16_is_close_to_fp32(case, tmp_path):
    single, half = case.fit(tmp_path / "fp32", FP32), case.fit(tmp_path / "bf16", BF16)
    assert half.summary["loss"] != single.summary["loss"]
    assert half.summary["loss"] == pytest.approx(single.summary["loss"], rel=0.05, abs=0.03)


def test_images_see_the_same_views(tmp_path_factory):
    case = Case("vit", tmp_path_factory.mktemp("views"))
    seen: dict[str, list[torch.Tensor]] = {}
    for name, fast in (("plain", OFF), ("fast", {})):
        found = seen.setdefault(name, [])
        # Every module's call passes here; those of the classifier have the images.
        hook = torch.nn.modules.module.register_module_forward_pre_hook(
            lambda module, args, found=found: (
                found.append(args[0].clone()) if type(module).__name__ == "ConvStem" else None
            )
        )
        case.fit(tmp_path_factory.mktemp(name), FP32, **fast)
        hook.remove()
    assert len(seen["plain"]) == STEPS
    assert all(torch.equal(a, b) for a, b in zip(seen["plain"], seen["fast"], strict=True))
    assert not torch.equal(seen["plain"][0], seen["plain"][6])
