"""The image task: batches, normalisation, held-out images, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.errors import DataError
from headstart.tasks.images import Augment, ImageClassification, ImageData, ImageModel, load_images
from tests.tiny import CLASSES, write_images

MODEL = ImageModel(name="resnet8", width=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), train=50, test=20)


def make(folder: Path, *, seed: int = 0, **settings: Any) -> ImageClassification:
    return ImageClassification(MODEL, ImageData.model_validate({"name": str(folder), **settings}), seed=seed)


def seen(task: ImageClassification, folder: Path, step: int, size: int) -> list[int]:
    """The training images that a batch consists of, found by their pixels."""
    everything = load_images(str(folder)).images.flatten(1).float()
    normalised = (everything / 255 - task.mean) / task.std
    inputs = task.batch(step, size).inputs.flatten(1)
    found = torch.cdist(inputs, normalised, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert found.values.max() < 1e-3
    return found.indices.tolist()


def test_inputs_are_normalised_with_the_training_images_mean_and_deviation(folder: Path) -> None:
    task, images = make(folder), load_images(str(folder)).images.numpy()
    mean, std = (images / 255).mean((0, 2, 3)), (images / 255).std((0, 2, 3))
    np.testing.assert_allclose(task.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(task.std, std, rtol=1e-6)
    inputs = task.batch(0, 48).inputs
    assert inputs.dtype == torch.float32 and inputs.shape == (48, 1, 8, 8)
    expected = (images / 255 - mean.reshape(1, -1, 1, 1)) / std.reshape(1, -1, 1, 1)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:48]
    np.testing.assert_allclose(inputs, expected[order.numpy()], atol=1e-5)


def test_an_epoch_shows_each_image_once_and_the_next_in_another_order(folder: Path) -> None:
    task = make(folder)
    first = [index for step in range(5) for index in seen(task, folder, step, 10)]
    second = [index for step in range(5, 10) for index in seen(task, folder, step, 10)]
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_a_last_batch_that_would_not_be_full_is_left_out(folder: Path) -> None:
    task = make(folder)
    first = [index for step in range(4) for index in seen(task, folder, step, 12)]
    assert len(set(first)) == 48
    assert len({*seen(task, folder, 4, 12), *seen(task, folder, 5, 12)}) == 24


def test_labels_go_with_their_images(folder: Path) -> None:
    task, whole = make(folder), load_images(str(folder))
    batch = task.batch(3, 10)
    assert batch.labels.tolist() == whole.labels[seen(task, folder, 3, 10)].tolist()
    assert batch.labels.dtype == torch.int64


def test_a_batch_is_a_pure_function_of_seed_and_step(folder: Path) -> None:
    augment = {"crop": 2, "flip": True, "cutout": 3}
    task, again, other = (make(folder, seed=seed, augment=augment) for seed in (1, 1, 2))
    expected = [task.batch(step, 10) for step in range(12)]
    for step in (11, 0, 7):
        torch.manual_seed(step)
        assert torch.equal(again.batch(step, 10).inputs, expected[step].inputs)
    assert not torch.equal(other.batch(0, 10).inputs, expected[0].inputs)


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_put_together_are_the_batch(folder: Path, parts: int) -> None:
    task = make(folder, augment=Augment(crop=1).model_dump())
    whole = task.batch(7, 10)
    pieces = [task.batch(7, 10, part=part, parts=parts) for part in range(parts)]
    assert torch.equal(torch.cat([piece.inputs for piece in pieces]), whole.inputs)
    assert torch.equal(torch.cat([piece.labels for piece in pieces]), whole.labels)


def test_held_out_images_are_trained_on_by_nobody_and_are_the_same_for_every_seed(folder: Path) -> None:
    tasks = [make(folder, seed=seed, evaluate="validation", holdout=14) for seed in (0, 1)]
    unused = [set(range(50)) - {i for step in range(3) for i in seen(task, folder, step, 12)} for task in tasks]
    assert [task.samples for task in tasks] == [36, 36]
    assert unused[0] == unused[1] and len(unused[0]) == 14


def test_images_to_tune_by_are_neither_trained_on_nor_those_of_the_validation(folder: Path) -> None:
    def judged(**settings: Any) -> list[bytes]:
        shown: list[Tensor] = []

        def forward(inputs: Tensor) -> Tensor:
            shown.append(inputs)
            return inputs.flatten(1)[:, :3]

        make(folder, **settings).evaluate(forward)
        return [image.numpy().tobytes() for image in torch.cat(shown)]

    both = {"holdout": 14, "tuning": 10}
    tuning = make(folder, evaluate="tuning", **both)
    assert tuning.samples == make(folder, **both).samples == 26
    trained = {tuple(tuning.batch(step, 13).samples.tolist()) for step in range(2)}
    assert sorted(index for part in trained for index in part) == list(range(26))
    one, other = judged(evaluate="tuning", **both), judged(evaluate="validation", **both)
    assert (len(one), len(other)) == (10, 14) and not set(one) & set(other)


@pytest.mark.parametrize(("evaluate", "count"), [("test", 20), ("validation", 14), ("tuning", 9)])
def test_evaluation_counts_every_held_out_image_once(folder: Path, evaluate: str, count: int) -> None:
    task = make(folder, evaluate=evaluate, holdout=14, tuning=9)
    shown: list[Tensor] = []

    def forward(inputs: Tensor) -> Tensor:
        shown.append(inputs)
        return inputs.flatten(1)[:, :3]

    found = task.evaluate(forward, size=6)
    inputs = torch.cat(shown)
    assert len(inputs) == count
    whole = task.evaluate(forward, size=1000)
    assert whole.quality == found.quality
    assert whole.others["held_out_loss"] == pytest.approx(found.others["held_out_loss"], rel=1e-6)


def test_accuracy_and_loss_are_those_of_the_test_images(folder: Path) -> None:
    task, test = make(folder), load_images(str(folder), "test")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    logits = model(((test.images / 255 - task.mean.view(1, -1, 1, 1)) / task.std.view(1, -1, 1, 1)).float()).detach()
    found = task.evaluate(model)
    assert found.quality == int((logits.argmax(1) == test.labels).sum()) / 20
    assert found.others["held_out_loss"] == pytest.approx(F.cross_entropy(logits, test.labels).item(), rel=1e-5)


def test_label_smoothing_is_that_of_torch(folder: Path) -> None:
    task = ImageClassification(MODEL, ImageData(name=str(folder)), label_smoothing=0.2)
    batch, logits = task.batch(0, 10), torch.randn(10, 3)
    assert torch.equal(task.loss(logits, batch), F.cross_entropy(logits, batch.labels, label_smoothing=0.2))


def test_the_description_says_what_a_teacher_needs(folder: Path) -> None:
    task = make(folder)
    described = task.describe()
    assert described["classes"] == list(CLASSES) and described["channels"] == 1
    assert ImageModel.model_validate(described["model"]) == MODEL
    assert torch.equal(torch.tensor(described["mean"]), task.mean)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"holdout": 50}, "data.holdout=50 leaves none of the 50 images"),
        ({"evaluate": "validation"}, "needs data.holdout above 0"),
        ({"evaluate": "tuning", "holdout": 9}, "data.evaluate=tuning needs data.tuning above 0"),
        ({"holdout": 30, "tuning": 20}, "data.holdout=30 and data.tuning=20 leave none of the 50 images"),
    ],
)
def test_settings_that_leave_no_images_are_refused(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(folder, **settings)
