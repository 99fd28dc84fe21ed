"""Statistics of BatchNorm, and what is left where they cannot be taken anew."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from headstart.init import init_from
from headstart.init.filling.batchnorm import retake
from headstart.init.filling.observe import give
from headstart.tasks.images.resnet import ResNet
from tests.init.models import assert_same_weights, stirred

IMAGES = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(1))
WRONG = torch.zeros(3, 2, 12, 12)  # of two channels


def net(width: int = 4) -> ResNet:
    return ResNet(8, classes=5, channels=1, width=width)


def momenta(model: nn.Module) -> set[float | None]:
    return {module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)}


def test_a_batch_that_cannot_be_given_leaves_the_statistics() -> None:
    model = stirred(net()).train()
    before = copy.deepcopy(model)
    with pytest.raises(RuntimeError):
        retake(model, [IMAGES, WRONG], give)
    assert_same_weights(model, before)
    assert momenta(model) == {0.1} and all(module.training for module in model.modules())


def test_a_call_that_raises_changes_nothing_and_a_second_one_works() -> None:
    student, source = net().train(), stirred(net(8))
    before = copy.deepcopy(student)
    with pytest.raises(RuntimeError):
        init_from(student, source, batches=[IMAGES, WRONG])
    assert_same_weights(student, before)
    assert momenta(student) == {0.1}
    init_from(student, source, batches=[IMAGES])
    assert momenta(student) == {0.1} and student.training
    init_from(before, source, batches=[IMAGES])
    assert_same_weights(student, before)
