"""Folding batch norms: the same outputs, up to rounding, from a copy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from headstart.distill.pool.fold import fold_batch_norms
from headstart.errors import TeacherError
from headstart.tasks.images.resnet import ResNet


def lively(module: nn.Module) -> nn.Module:
    """Batch norms with statistics and weights as training leaves them."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 2.0)
                nn.init.normal_(part.bias)
    return module.eval()


class Block(nn.Module):
    """A convolution with a batch norm, and one around which a shortcut leads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn1(self.conv1(x)).relu()
        z: Tensor = self.bn2(self.conv2(y))
        return y + z


class Branching(nn.Module):
    """What its first convolution gives goes past the batch norm, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(x)
        z: Tensor = self.bn1(y)
        return y + z


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


@pytest.mark.parametrize(
    ("build", "shape", "left"),
    [
        (Block, (2, 3, 8, 8), 0),
        (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU()), (2, 3, 8), 0),
        (lambda: nn.Sequential(nn.Conv3d(3, 4, 2, stride=2), nn.BatchNorm3d(4)), (2, 3, 4, 4, 4), 0),
        (lambda: nn.Sequential(Block(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)), (2, 3, 8, 8), 0),
        (
            lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)),
            (2, 3, 4, 4),
            1,
        ),
        (lambda: nn.Sequential(Block(), nn.BatchNorm2d(4)), (2, 3, 8, 8), 1),
        (lambda: nn.Sequential(Block(), Branching()), (2, 3, 8, 8), 1),
    ],
    ids=["2d with a shortcut", "1d", "3d", "nested", "norm first, then without weights", "norm after a sum", "branch"],
)
def test_the_outputs_are_the_same_and_the_module_is_left_alone(
    build: Callable[[], nn.Module], shape: tuple[int, ...], left: int
) -> None:
    module = lively(build()).double()
    inputs = torch.randn(shape, dtype=torch.float64)
    expected, before = module(inputs), norms(module)
    folded = fold_batch_norms(module)
    torch.testing.assert_close(folded(inputs), expected)
    assert norms(folded) == left < before == norms(module) and not folded.training
    assert torch.equal(module(inputs), expected)


def test_the_copy_shares_nothing_with_the_module() -> None:
    """What becomes of the copy, frozen and in another dtype, must not become of a module that is still trained."""
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).train()
    fold_batch_norms(module).requires_grad_(False).bfloat16()
    assert module.training
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in module.parameters())


class Shared(Block):
    """A convolution that is called twice, and a batch norm that is."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.bn1(self.conv1(x)))
        z: Tensor = self.bn2(y) + self.bn1(self.conv2(y))
        return z


class Data(nn.Module):
    """Its operators depend on the values of its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x if bool(x.sum() > 0) else -x


class Batchwise(nn.Sequential):
    """A batch norm that has no statistics of its own."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Shared, "Shared: no batch norm directly follows a convolution; leave fold out for this teacher"),
        (Batchwise, "Batchwise: no batch norm directly follows"),
        (Data, "Data: batch norms cannot be folded, as torch.fx cannot trace its forward .*; leave fold out"),
    ],
)
def test_what_cannot_be_folded_is_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        fold_batch_norms(build())


def test_our_networks_fold_entirely() -> None:
    module = lively(ResNet(14, classes=10, channels=1))
    images = torch.randn(4, 1, 28, 28)
    folded = fold_batch_norms(module)
    assert norms(folded) == 0
    torch.testing.assert_close(folded(images), module(images), rtol=1e-4, atol=1e-4)
