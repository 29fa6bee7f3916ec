"""Image classifiers: reading, views, training that can be interrupted, scores."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from torchvision.transforms.v2 import RandomResizedCrop
from transformers import Trainer, TrainingArguments

from coto.adapters.delta import deltas
from coto.adapters.store import read_adapter
from coto.device import Compute
from coto.errors import CotoError
from coto.models.images.model import ImageClassifier
from coto.models.images.pictures import Pictures, Pixels, _box, crop, shift
from coto.models.settings import Loading, TaskEvaluation, Training
from coto.models.weights import base_weights, changed
from coto.tasks.images import ImageTask
from tests.models.small_vision import (
    CLASSES,
    adapted,
    backbone,
    pictures,
    png,
    write_clip,
    write_vit,
)

TASK = ImageTask(name="pets", family="pets", summary="Which pet?", source="hub", code="")
GREY = Pixels(size=12, channels=1, mean=(0.4,), std=(0.3,))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write_vit(root / "vit")
    write_clip(root / "clip")
    return root


def classifier(folders, family="vit", seed=0, batch_images=8, **train):
    loading = Loading(
        backbone=backbone(family, path=str(folders / family)),
        train=Training(**train),
        evaluation=TaskEvaluation(batch_images=batch_images, max_lengths={}),
    )
    return ImageClassifier(loading, Compute(torch.device("cpu")), seed)


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "crop"), [(8, 8, 1), (40, 25, 1), (9, 30, 1), (50, 50, 0.75)]
)
def test_the_evaluations_view_is_pils(height, width, crop):
    draw = np.random.default_rng(0)
    array = draw.integers(0, 256, (height, width, 3)).astype(np.uint8)
    pixels = Pixels(size=12, channels=3, mean=(0,) * 3, std=(1,) * 3, crop=crop)
    found = Pictures(pixels).read(png(array), "image", "fitted")
    shorter = int(12 / crop)
    size = [round(shorter * side // min(height, width)) for side in (width, height)]
    resized = Image.fromarray(array).resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - 12) / 2), round((size[1] - 12) / 2)
    expected = np.array(resized.crop((left, top, left + 12, top + 12))).transpose(2, 0, 1)
    assert np.abs(found.numpy().astype(int) - expected).max() <= 1


def test_colours_become_what_the_model_sees():
    array = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    grey = Pictures(GREY).read(png(array), "image", "fitted")
    assert np.array_equal(grey[0], np.array(Image.fromarray(array).convert("L")))
    colour = Pictures(Pixels(12, 3, (0,) * 3, (1,) * 3))
    assert np.array_equal(colour.read(png(array), "image", "whole"), array.transpose(2, 0, 1))
    for mode in ("L", "P", "RGBA", "1", "CMYK"):
        file = io.BytesIO()
        Image.fromarray(array).convert(mode).save(file, "TIFF")
        assert colour.read(file.getvalue(), "image", "fitted").shape == (3, 12, 12)


def test_pixels_are_normalised_per_channel():
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(1, 2, 1).reshape(1, 2, 1, 2)
    found = Pixels(2, 2, (0.5, 0.0), (0.5, 2.0)).normalise(images)
    assert found.flatten().tolist() == [-1, 1, 0, 0.5]


def test_a_full_memory_changes_nothing():
    rows = pictures(3)
    few, many = Pictures(GREY, limit=2 * 144), Pictures(GREY)
    for _ in range(2):
        for content in rows["image"]:
            image = many.read(content, "image", "fitted")
            assert torch.equal(few.read(content, "image", "fitted"), image)
    assert (few.is_full, len(few._kept)) == (True, 2)
    assert (many.is_full, len(many._kept)) == (False, 9)


# --- bad rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["train", "score"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"not an image", "is no readable image"),
        (pictures(1)["image"][0][:60], "is no readable image"),
        (b"", "is missing"),
        (None, "is missing"),
    ],
)
def test_a_broken_image_is_told_with_its_number_and_file(folders, stage, content, told):
    rows = pictures(3)
    rows["image"] = [*rows["image"][:4], content, *rows["image"][5:]]
    rows["file"] = [f"{i}.png" for i in range(9)]
    on = classifier(folders)
    on.set_task(TASK, rows)
    with pytest.raises(CotoError, match=rf"^task pets: image 104 \(4\.png\): {told}"):
        on.training_set(TASK, rows) if stage == "train" else on.score(on.model, TASK, rows)


def test_labels_and_class_names_that_do_not_fit_are_told(folders):
    rows = pictures(2)
    on = classifier(folders)
    rows.loc[3, "label"] = 3
    with pytest.raises(CotoError, match="image 103 has label 3, expected 0 to 2"):
        on.training_set(TASK, rows)
    with pytest.raises(CotoError, match="no rows"):
        on.score(on.model, TASK, rows.iloc[:0])
    rows.attrs = {}
    with pytest.raises(CotoError, match=r"class_names = \[\]: expected at least two"):
        on.set_task(TASK, rows)
    with pytest.raises(ValidationError, match=r"should be 'none', 'shift' or 'crop'"):
        classifier(folders, augmentation="blur")


# --- random views --------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", ["shift", "crop"])
def test_a_view_follows_from_seed_pass_and_row_alone(folders, augmentation):
    rows = pictures(3)
    view = classifier(folders, augmentation=augmentation).training_set(TASK, rows).collate
    expected = view([(4, 1)])["pixel_values"]
    torch.manual_seed(5)
    batch = view([(2, 1), (4, 1), (4, 2), (4, 0)])
    same = [torch.equal(image[None], expected) for image in batch["pixel_values"]]
    assert same == [False, True, False, False]
    assert batch["labels"].tolist() == rows["label"][[2, 4, 4, 4]].tolist()
    again = classifier(folders, augmentation=augmentation).training_set(TASK, rows)
    assert torch.equal(again.collate([(4, 1)])["pixel_values"], expected)
    other = classifier(folders, seed=1, augmentation=augmentation).training_set(TASK, rows)
    assert not torch.equal(other.collate([(4, 1)])["pixel_values"], expected)


def test_without_augmentation_training_sees_what_evaluation_sees(folders):
    rows = pictures(3)
    on = classifier(folders, augmentation="none")
    batch = on.training_set(TASK, rows).collate([(i, i) for i in range(9)])["pixel_values"]
    images = [Pictures(GREY).read(content, "image", "fitted") for content in rows["image"]]
    assert torch.equal(batch, GREY.normalise(torch.stack(images)))


def draws(count):
    return [np.random.default_rng((9, i)) for i in range(count)]


def test_shifts_are_small_and_centred():
    side, count = 48, 400
    images = torch.zeros(count, 1, side, side)
    images[:, :, 23:25, 23:25] = 1
    images[:, :, 23:25, 35:37] = 2  # 12 pixels to the right
    views = shift(images, draws(count))
    grid = torch.arange(side) - 23.5
    near = views.clone()
    near[..., 31:] = 0  # the dot in the middle never gets there, the other hardly beyond
    total = near.sum((1, 2, 3))
    dx = (near * grid).sum((1, 2, 3)) / total
    dy = (near * grid[:, None]).sum((1, 2, 3)) / total
    for moved in (dx, dy):
        assert moved.abs().max() < 0.08 * side * 1.15 + 1
        assert moved.abs().max() > 0.06 * side
        assert abs(moved.mean()) < 0.4
    flat = torch.full((3, 1, 8, 8), 7.0)
    torch.testing.assert_close(shift(flat, draws(3)), flat)


def test_crops_are_drawn_as_torchvision_draws_them():
    height, width, count = 60, 90, 3000
    ours = np.array([_box(height, width, draw) for draw in draws(count)], dtype=float)
    torch.manual_seed(0)
    image = torch.zeros(1, height, width)
    reference = RandomResizedCrop(10, scale=(0.08, 1.0))
    drawn = (reference.make_params([image]) for _ in range(count))
    theirs = np.array([[d["top"], d["left"], d["height"], d["width"]] for d in drawn], dtype=float)
    error = np.sqrt(theirs.var(axis=0) * 2 / count)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 4.5 * error).all()
    assert ours.std(axis=0) == pytest.approx(theirs.std(axis=0), rel=0.07)
    assert (ours[:, :2] + ours[:, 2:] <= (height, width)).all()


def test_a_very_long_image_is_cropped_from_its_centre():
    assert _box(10, 1000, np.random.default_rng(0)) == (0, 493, 10, 13)
    assert _box(1000, 10, np.random.default_rng(0)) == (493, 0, 13, 10)


def test_crops_are_mirrored_half_of_the_time():
    image = torch.arange(64, dtype=torch.uint8).mul(3).repeat(64, 1)[None]
    views = [crop(image, 12, draw) for draw in draws(400)]
    assert {view.shape for view in views} == {(1, 12, 12)}
    mirrored = sum(bool(view[0, 6, 0] > view[0, 6, -1]) for view in views)
    assert 155 < mirrored < 245  # 4.5 standard deviations


# --- training ------------------------------------------------------------------------------------


def fit(folders, workspace, family, *, steps, save_steps=100, resume=None):
    """Train on augmented images with dropout, as the pipeline does."""
    torch.seed()  # a new process starts with any random state
    on = classifier(folders, family, augmentation="shift" if family == "vit" else "crop")
    rows = pictures(4, channels=3)
    on.set_task(TASK, rows)
    data = on.training_set(TASK, rows)
    torch.manual_seed(0)
    targets = ["q", "v"] if family == "vit" else ["q_proj", "v_proj"]
    model = adapted(on.model, "lora", targets, on.heads)
    arguments = TrainingArguments(
        str(workspace),
        max_steps=steps,
        save_steps=save_steps,
        lr_scheduler_type="constant",
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        gradient_checkpointing=True,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=1000,
        seed=3,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=data.dataset,
        data_collator=data.collate,
        callbacks=list(data.callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)
    model.save_pretrained(workspace / "final")
    return on, model, data


@pytest.mark.parametrize(("family", "stop"), [("vit", 5), ("vit", 6), ("clip", 5)])
def test_a_resumed_training_ends_bit_for_bit_where_the_whole_one_does(
    folders, tmp_path, family, stop
):
    # Three steps a pass: step 5 is in the middle of the second one, step 6 ends it.
    *_, data = fit(folders, tmp_path / "whole", family, steps=8)
    assert data.dataset[0] == (0, 2)
    fit(folders, tmp_path / "broken", family, steps=stop, save_steps=stop)
    checkpoint = str(tmp_path / "broken" / f"checkpoint-{stop}")
    fit(folders, tmp_path / "broken", family, steps=8, resume=checkpoint)
    whole, broken = (
        load_file(tmp_path / name / "final/adapter_model.safetensors")
        for name in ("whole", "broken")
    )
    assert whole.keys() == broken.keys()
    assert len(whole) > 4
    for name, tensor in whole.items():
        assert torch.equal(tensor, broken[name]), name


@pytest.mark.parametrize("family", ["vit", "clip"])
def test_a_trained_adapter_scores_the_same_as_its_weight_change(folders, tmp_path, family):
    on, model, _ = fit(folders, tmp_path, family, steps=6)
    rows = pictures(8, seed=1)
    (inside,) = on.score(model, TASK, rows)
    plain = classifier(folders, family)
    plain.set_task(TASK, rows)
    adapter = read_adapter(tmp_path / "final")
    assert set(adapter.heads) == ({"head.weight", "head.bias"} if family == "vit" else set())
    change = deltas(adapter, base_weights(plain.model, list(adapter.modules)))
    with changed(plain.model, change, adapter.heads) as other:
        (merged,) = plain.score(other, TASK, rows)
    assert merged.metrics == inside.metrics
    pd.testing.assert_frame_equal(merged.items, inside.items)
    (before,) = plain.score(plain.model, TASK, rows)
    assert not before.items["prediction"].equals(merged.items["prediction"])


# --- scores --------------------------------------------------------------------------------------


def scored(folders, family, rows, batch_images):
    on = classifier(folders, family, batch_images=batch_images)
    on.set_task(TASK, rows)
    torch.manual_seed(0)
    if family == "vit":
        torch.nn.init.normal_(on.model.head.weight)
        # So that no class has all images.
        on.model.head.bias.data -= torch.tensor(on._predict(on.model, TASK, rows).mean(axis=0))
    return on._predict(on.model, TASK, rows), on.score(on.model, TASK, rows)[0]


@pytest.mark.parametrize("family", ["vit", "clip"])
def test_scores_do_not_depend_on_the_batch(folders, family):
    rows = pictures(5, channels=3)
    logits, scores = scored(folders, family, rows, 8)
    for size in (1, 64):
        other, again = scored(folders, family, rows, size)
        np.testing.assert_allclose(other, logits, rtol=1e-4, atol=1e-4)
        pd.testing.assert_frame_equal(again.items, scores.items)
    # and stay with their images
    shuffled = rows.sample(frac=1, random_state=0)
    shuffled.attrs = rows.attrs
    other, _ = scored(folders, family, shuffled, 4)
    np.testing.assert_allclose(other, logits[shuffled.index], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["vit", "clip"])
def test_features_are_what_the_head_reads(folders, family):
    rows = pictures(5, channels=3)
    model = classifier(folders, family, batch_images=2)
    model.set_task(TASK, rows)
    if family == "vit":
        torch.nn.init.normal_(model.model.head.weight)
    features = torch.from_numpy(model.features(TASK, rows))
    (scores,) = model.score(model.model, TASK, rows)
    with torch.inference_mode():
        if family == "vit":
            logits = model.model.head(features)
        else:
            images = torch.nn.functional.normalize(model.model.clip.visual_projection(features))
            logits = 100 * images @ model.model.text_features().T
    assert len(features) == len(rows)
    np.testing.assert_allclose(logits.numpy(), scores.outputs, rtol=1e-4, atol=1e-4)


def test_scores_are_what_they_say(folders):
    rows = pictures(5)
    logits, scores = scored(folders, "vit", rows, 8)
    assert scores.items["idx"].tolist() == rows["idx"].tolist()
    assert scores.items["answer"].tolist() == rows["label"].tolist()
    assert scores.items["prediction"].tolist() == logits.argmax(axis=1).tolist()
    right = np.mean(logits.argmax(axis=1) == rows["label"])
    assert scores.metrics == {"accuracy": pytest.approx(right)}
    assert scores.items["correct"].mean() == pytest.approx(right)
    assert (scores.task, scores.headline, scores.collapsed) == ("pets", "accuracy", False)
    assert np.array_equal(scores.outputs, logits)
    assert scores.targets.tolist() == rows["label"].tolist()
    loss = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(scores.targets))
    assert scores.loss == pytest.approx(loss.item(), rel=1e-5)


def test_a_head_that_knows_nothing_is_told_to_be_collapsed(folders):
    rows = pictures(5)
    on = classifier(folders)
    on.set_task(TASK, rows)
    (scores,) = on.score(on.model, TASK, rows)
    assert scores.collapsed
    assert scores.metrics["accuracy"] == pytest.approx(1 / 3)


def test_a_diverged_model_is_an_error(folders):
    rows = pictures(2)
    on = classifier(folders)
    on.set_task(TASK, rows)
    on.model.head.bias.data[1] = torch.nan
    with pytest.raises(CotoError, match="task pets: 6 of 6 images have NaN or infinite logits"):
        on.score(on.model, TASK, rows)


def test_clip_encodes_its_prompts_once_per_scoring(folders):
    rows = pictures(5, channels=3)
    on = classifier(folders, "clip", batch_images=2)
    on.set_task(TASK, rows)
    assert len(on.model.prompts) == len(CLASSES)
    calls = []
    on.model.clip.text_model.register_forward_hook(lambda *_: calls.append(1))
    on.score(on.model, TASK, rows)
    assert len(calls) == 1


def test_a_stage_without_training_needs_no_training_settings(folders):
    loading = Loading(
        backbone=backbone("vit", path=str(folders / "vit")),
        evaluation=TaskEvaluation(batch_images=4, max_lengths={}),
    )
    on = ImageClassifier(loading, Compute(torch.device("cpu")), 0)
    on.set_task(TASK, pictures(2))
    assert len(on.score(on.model, TASK, pictures(2))[0].items) == 6
