"""GRACE against its formula, written out in numpy; projections; per-sample gradients against autograd row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headstart.distill.probing import probe
from headstart.distill.probing.grace import DIMENSIONS, grace, projected


def test_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 5, generator=generator).double() * torch.tensor([3.0, 1.0, 1.0, 0.1, 0.0])
    drawn = torch.Generator().manual_seed(4)
    scores = []
    for _ in range(10):
        order = torch.randperm(30, generator=drawn).numpy()
        test, train = rows.numpy()[order[:3]], rows.numpy()[order[3:]]
        train = train / np.linalg.norm(train, axis=1, keepdims=True)
        covariance = sum(np.outer(row, row) for row in train) / 27
        values, vectors = np.linalg.eigh(covariance)
        values = np.clip(values, 0, None)
        smoothed = (1 - 1e-3) * values + 1e-3 * values.mean()
        inverse = vectors @ np.diag(1 / smoothed) @ vectors.T
        scores.append(np.trace(inverse @ (sum(np.outer(row, row) for row in test) / 3)))
    assert grace(rows, seed=4) == pytest.approx(np.mean(scores), rel=1e-9)


def test_short_and_alike_is_better() -> None:
    rows = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    alike = torch.ones(60, 8) + 0.01 * rows
    assert grace(0.5 * rows) < grace(rows)
    assert grace(alike / alike.norm(dim=-1, keepdim=True)) < grace(rows / rows.norm(dim=-1, keepdim=True))


def test_a_projection_keeps_lengths_and_angles() -> None:
    rows = torch.randn(6, 40_000, generator=torch.Generator().manual_seed(0))
    rows[1] = rows[0] + 0.5 * rows[1]
    found = projected(rows)
    assert found.shape == (6, DIMENSIONS)
    torch.testing.assert_close(found @ found.T / 40_000, rows @ rows.T / 40_000, rtol=0, atol=0.2)
    assert torch.equal(projected(rows[:, :DIMENSIONS]), rows[:, :DIMENSIONS])


def test_of_a_student_and_a_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(40, 3, generator=generator), torch.randint(4, (40,), generator=generator)
    torch.manual_seed(0)
    student, teacher = nn.Linear(3, 4), nn.Linear(3, 4)
    (found,) = probe(teacher, student, [(inputs, labels)], timed=False, gradients=True).teachers
    rows = []
    for one in inputs.split(1):  # type: ignore[no-untyped-call]
        target = (teacher(one) / found.temperature).softmax(-1).detach()
        own = nn.Linear(3, 4).double()
        own.load_state_dict(student.state_dict())
        loss = F.kl_div(own(one.double()).log_softmax(-1), target.double(), reduction="batchmean")
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(own.parameters()))]))
    assert found.grace == pytest.approx(grace(torch.stack(rows)), rel=1e-3)
    (without,) = probe(teacher, student, [(inputs, labels)], timed=False).teachers
    assert without.grace is None


def test_a_batch_that_cannot_be_cut() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, rows: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.linear(rows)
            return output

    batch = ((torch.randn(40, 3), torch.zeros(7)), torch.arange(40) % 4)
    (found,) = probe(Two(), Two(), [batch], timed=False, gradients=True).teachers
    assert found.grace is None
