"""A student, and teachers that tell what was done to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.distill.batch import CLASSES, FEATURES


class CountingTeacher(nn.Module):
    """A linear map that counts its forwards and notes whether it was in eval mode."""

    def __init__(self, features: int = FEATURES, classes: int = CLASSES) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)
        self.calls = 0
        self.modes: set[bool] = set()

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        self.modes.add(self.training)
        output: Tensor = self.linear(inputs)
        return output


class Given(nn.Module):
    """Gives the same logits whatever it is asked."""

    def __init__(self, logits: Any) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.logits


@pytest.fixture
def student() -> nn.Module:
    """Return a linear map for the batch."""
    return nn.Linear(FEATURES, CLASSES)


@pytest.fixture
def counting() -> Callable[..., CountingTeacher]:
    """Make a `CountingTeacher`."""
    return CountingTeacher


@pytest.fixture
def given() -> Callable[[Any], nn.Module]:
    """Make a teacher that gives these logits."""
    return Given


@pytest.fixture
def logits() -> Callable[..., Tensor]:
    """Make random logits in fp64, well spread."""
    generator = torch.Generator().manual_seed(5)

    def make(*shape: int, scale: float = 2.0) -> Tensor:
        return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)

    return make
