"""Mixup and soft labels: against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headstart.tasks import Batch, Mixed
from headstart.tasks.images import ImageClassification, ImageData, ImageModel
from headstart.tasks.images.losses import begin_unlikely, binary_cross_entropy, soft_labels
from headstart.tasks.images.mixup import mixing_share
from tests.tiny import write_images

MODEL = ImageModel(name="resnet8", width=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), train=50, test=20)


def task(folder: Path, mixup: float, **settings: object) -> ImageClassification:
    data = ImageData.model_validate({"name": str(folder), "augment": {"mixup": mixup}})
    return ImageClassification(MODEL, data, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_moments_of_their_distribution(alpha: float) -> None:
    shares = np.array([mixing_share(alpha, seed=0, step=step) for step in range(4000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 4 * math.sqrt(variance / 4000)
    assert shares.var() == pytest.approx(variance, rel=0.1)
    assert mixing_share(alpha, seed=0, step=3) == shares[3] != mixing_share(alpha, seed=1, step=3)


def test_inputs_are_mixtures_of_neighbours_and_labels_tell_both(folder: Path) -> None:
    mixing, plain = task(folder, 0.4), task(folder, 0.0)
    mixed, batch = mixing.batch(3, 10), plain.batch(3, 10)
    share = mixing_share(0.4, seed=0, step=3)
    for row in range(10):
        expected = share * batch.inputs[row] + (1 - share) * batch.inputs[row - 1]
        torch.testing.assert_close(mixed.inputs[row], expected, rtol=1e-5, atol=1e-6)
    assert mixed.mixed is not None and mixed.mixed.share == share
    assert mixed.labels.tolist() == batch.labels.tolist()
    assert mixed.mixed.labels.tolist() == [int(batch.labels[row - 1]) for row in range(10)]
    assert batch.mixed is None and mixing.own_loss and not plain.own_loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixture_is_the_mixture_of_losses(smoothing: float, folder: Path) -> None:
    mixing, logits = task(folder, 0.4, label_smoothing=smoothing), torch.randn(10, 3, dtype=torch.float32)
    batch = mixing.batch(0, 10)
    assert batch.mixed is not None
    losses = [
        float(F.cross_entropy(logits, labels, label_smoothing=smoothing))
        for labels in (batch.labels, batch.mixed.labels)
    ]
    expected = batch.mixed.share * losses[0] + (1 - batch.mixed.share) * losses[1]
    assert float(mixing.loss(logits, batch)) == pytest.approx(expected, rel=1e-5)


def test_soft_labels_are_probabilities() -> None:
    labels, others = torch.tensor([0, 1, 2]), torch.tensor([2, 2, 2])
    batch = Batch(torch.zeros(3, 1), labels, torch.arange(3), 0, Mixed(others, 0.75))
    found = soft_labels(batch, 4, smoothing=0.2)
    expected = [[0.65, 0.05, 0.25, 0.05], [0.05, 0.65, 0.25, 0.05], [0.05, 0.05, 0.85, 0.05]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_binary_cross_entropy_is_the_sum_of_yes_and_no() -> None:
    logits, target = torch.randn(5, 4), torch.rand(5, 4)
    yes = torch.sigmoid(logits.double())
    expected = -(target * yes.log() + (1 - target) * (1 - yes).log()).sum(1).mean()
    assert float(binary_cross_entropy(logits, target)) == pytest.approx(float(expected), rel=1e-5)


def test_a_binary_task_begins_with_every_class_unlikely(folder: Path) -> None:
    torch.manual_seed(0)
    binary = task(folder, 0.0, task_loss="bce")
    model, batch = binary.build_model(), binary.batch(0, 10)
    torch.testing.assert_close(model.get_submodule("linear").bias, torch.full((3,), -math.log(3)))
    assert binary.own_loss
    one_hot = F.one_hot(batch.labels, 3).float()
    logits = torch.randn(10, 3)
    assert float(binary.loss(logits, batch)) == pytest.approx(float(binary_cross_entropy(logits, one_hot)))


def test_a_head_without_a_bias_stays_as_it_is() -> None:
    head = nn.Linear(2, 3, bias=False)
    before = head.weight.clone()
    begin_unlikely(nn.Sequential(head), 3)
    assert torch.equal(head.weight, before)
