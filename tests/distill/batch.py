"""A batch, and what a training loop does with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import Distiller

FEATURES, CLASSES = 4, 5
INPUTS = torch.randn(8, FEATURES, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])


def call(distiller: Distiller, student: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the task loss and what the Distiller makes of it."""
    logits = student(INPUTS)
    task = F.cross_entropy(logits, LABELS)
    return task, distiller(task, logits, INPUTS)
