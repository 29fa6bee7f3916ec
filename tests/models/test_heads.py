"""Heads that stay as they are: cosines to class prototypes, and fixed random directions."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from coto.adapters.delta import deltas
from coto.adapters.store import read_adapter
from coto.device import Compute
from coto.errors import CotoError
from coto.models.images.heads import CosineHead, frozen_head
from coto.models.images.model import ImageClassifier
from coto.models.settings import Loading, TaskEvaluation
from coto.models.weights import base_weights, changed
from coto.operators.merge import average_heads
from coto.tasks.images import ImageTask
from tests.models.small_vision import adapted, backbone, pictures, train, write_vit

TASK = ImageTask(name="pets", family="pets", summary="Which pet?", source="hub", code="")
OTHER = ImageTask(name="cats", family="pets", summary="Which cat?", source="hub", code="")
FROZEN = ("frozen", "prototypes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "vit"
    write_vit(folder)
    return folder


def classifier(folder, head, scale=10.0, seed=0):
    loading = Loading(
        backbone=backbone("vit", path=str(folder)),
        evaluation=TaskEvaluation(batch_images=8, max_lengths={}),
        head=head,
        logit_scale=scale if head == "prototypes" else None,
    )
    return ImageClassifier(loading, Compute(torch.device("cpu")), seed)


def batch_of(on, rows):
    data = on.training_set(TASK, rows)
    return data.collate([data.dataset[i] for i in range(len(rows))])


# --- the cosine classifier -----------------------------------------------------------------------


def by_hand(features, examples, labels, scale):
    """The same in numpy, one example after the other."""
    centre = examples.mean(axis=0)

    def unit(vector):
        return vector / np.sqrt((vector**2).sum())

    classes = []
    for label in range(labels.max() + 1):
        own = [unit(example - centre) for example in examples[labels == label]]
        classes.append(unit(sum(own) / len(own)))
    return np.array([[scale * unit(f - centre) @ c for c in classes] for f in features])


def test_logits_are_scaled_cosines_of_centred_features_and_class_means():
    draw = np.random.default_rng(0)
    examples, features = draw.normal(2, 1, (11, 6)), draw.normal(2, 1, (5, 6))
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 2])
    head = CosineHead(torch.tensor(examples), torch.tensor(labels), 3, 7.0)
    found = head(torch.tensor(features))
    np.testing.assert_allclose(found, by_hand(features, examples, labels, 7.0), rtol=1e-10)
    assert not list(head.parameters())
    assert not head.state_dict()


def test_a_class_without_an_example_is_told():
    with pytest.raises(CotoError, match=r"^head prototypes: class 1 has no example"):
        CosineHead(torch.randn(3, 4), torch.tensor([0, 0, 2]), 3, 10.0)


def test_the_model_scores_with_prototypes_of_its_own_frozen_features(folder):
    rows, examples = pictures(6, seed=1), pictures(4, seed=2)
    on = classifier(folder, "prototypes", 5.0)
    on.set_task(TASK, rows, examples)
    model = on.model.eval()
    with torch.no_grad():
        features, known = (
            torch.cat([model.features(images) for images in on._batches(TASK, part)]).numpy()
            for part in (rows, examples)
        )
    expected = by_hand(features, known, examples["label"].to_numpy(), 5.0)
    np.testing.assert_allclose(on._predict(model, TASK, rows), expected, rtol=1e-4, atol=1e-4)
    (scores,) = on.score(model, TASK, rows)
    assert scores.metrics["accuracy"] == pytest.approx((expected.argmax(1) == rows["label"]).mean())


def test_each_task_keeps_the_prototypes_that_the_bare_backbone_gave(folder):
    on, rows, examples = classifier(folder, "prototypes"), pictures(3), pictures(4, seed=2)
    on.set_task(TASK, rows, examples)
    before = on._predict(on.model, TASK, rows)
    on.set_task(OTHER, rows, pictures(4, classes=3, seed=5))
    assert not np.allclose(on._predict(on.model, OTHER, rows), before, atol=1e-3)
    with torch.no_grad():
        on.model.vit.blocks[0].mlp.fc1.weight += 1
    on.set_task(TASK, rows, examples)
    with torch.no_grad():
        on.model.vit.blocks[0].mlp.fc1.weight -= 1
    np.testing.assert_allclose(on._predict(on.model, TASK, rows), before, atol=1e-4)


# --- fixed directions ----------------------------------------------------------------------------


def test_a_frozen_head_is_orthonormal_and_the_same_every_time():
    torch.seed()
    first = frozen_head(16, 5)
    torch.seed()
    assert torch.equal(first.weight, frozen_head(16, 5).weight)
    torch.testing.assert_close(first.weight @ first.weight.T, torch.eye(5))
    assert not first.bias.any()


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", FROZEN)
@pytest.mark.parametrize("kind", ["lora", "dora", "hira"])
def test_only_adapters_are_trained_and_saved(folder, tmp_path, head, kind):
    on, rows = classifier(folder, head), pictures(4)
    on.set_task(TASK, rows, pictures(4, seed=2))
    assert on.heads == ()
    model = adapted(on.model, kind, ["q", "v"], on.heads)
    batch = batch_of(on, rows)
    model(**batch).loss.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n, p in model.named_parameters() if p.requires_grad}
    assert with_gradient
    assert all("lora_" in name or "hira_" in name for name in with_gradient)
    assert train(model, batch) <= with_gradient
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert all("lora_" in name or "hira_" in name for name in saved)
    assert not read_adapter(tmp_path).heads


@pytest.mark.parametrize("head", FROZEN)
@pytest.mark.parametrize("kind", ["lora", "dora", "hira"])
def test_a_saved_adapter_scores_elsewhere_as_it_did_in_training(folder, tmp_path, head, kind):
    rows, test, examples = pictures(4), pictures(8, seed=1), pictures(4, seed=2)
    on = classifier(folder, head)
    on.set_task(TASK, rows, examples)
    model = adapted(on.model, kind, ["q", "k", "v"], on.heads)
    train(model, batch_of(on, rows), steps=6)
    inside = on._predict(model, TASK, test)
    model.save_pretrained(tmp_path)
    plain, adapter = classifier(folder, head, seed=1), read_adapter(tmp_path)
    plain.set_task(TASK, test, examples)
    bare = plain._predict(plain.model, TASK, test)
    change = deltas(adapter, base_weights(plain.model, list(adapter.modules)))
    with changed(plain.model, change, adapter.heads) as other:
        np.testing.assert_allclose(plain._predict(other, TASK, test), inside, atol=1e-4)
    assert not np.allclose(bare, inside, atol=1e-2)


def test_runs_without_heads_have_none_to_average(folder, tmp_path):
    on = classifier(folder, "frozen")
    on.set_task(TASK, pictures(2))
    model = adapted(on.model, "lora", ["q"], on.heads)
    train(model, batch_of(on, pictures(2)))
    model.save_pretrained(tmp_path)
    run = read_adapter(tmp_path)
    assert average_heads([run, run], [0.5, 0.5]) == {}
