"""Trainings in which it is known whether a teacher helps: logits are made, and no weight moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import Distiller

ROWS, CLASSES, TOTAL = 64, 4, 400


class Echo(nn.Module):
    """A teacher that gives what it is asked: the batch tells it."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits


def batch(step: int, *, student: float, teacher: float, rank: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of student and teacher, and labels: each knows the label to some degree, and has errors of its own."""
    draw = torch.Generator().manual_seed(1000 * step + rank)
    labels = torch.randint(CLASSES, (ROWS,), generator=draw)
    truth = F.one_hot(labels, CLASSES).float()
    sides = [skill * truth + torch.randn(ROWS, CLASSES, generator=draw) for skill in (student, teacher)]
    return sides[0].requires_grad_(), sides[1], labels


def auto(teachers: Any = None, *, total_steps: int = TOTAL, cap: float = 1.0, **options: Any) -> Distiller:
    """A Distiller that stops by itself."""
    teachers = Echo() if teachers is None else teachers
    return Distiller(teachers, total_steps=total_steps, stop="auto", **{"cap": cap, "warmup": 0.0, **options})


def go(distiller: Distiller, skills: Sequence[tuple[float, float]], *, first: int = 0) -> list[float]:
    """Make steps; the weight at each."""
    weights = []
    for step, (student, teacher) in enumerate(skills, start=first):
        logits, target, labels = batch(step, student=student, teacher=teacher)
        task = F.cross_entropy(logits, labels)
        loss = distiller(task, logits, target, labels=labels)
        weights.append(0.0 if loss is task else distiller.last.weight)  # type: ignore[union-attr]
        distiller.step()
    return weights


GOOD = [(1.0 + step / TOTAL, 6.0) for step in range(TOTAL)]  # a teacher that is ahead to the end
PASSED = [(6.0 * step / TOTAL, 2.5) for step in range(TOTAL)]  # one that the student passes
WRONG_AT = -3.0  # the skill of a teacher that points away from the labels
