"""dkd of mixtures: the mean over classes, with their shares, of its value for each class as the label."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill import dkd

Make = Callable[..., Tensor]
ROWS, CLASSES = 6, 5


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("kind", ["two labels", "smoothed", "one label"])
def test_mixtures(kind: str, scale: float, logits: Make) -> None:
    student = logits(ROWS, CLASSES, scale=scale).requires_grad_()
    teacher = logits(ROWS, CLASSES, scale=scale)
    first, second = (F.one_hot(torch.arange(ROWS).add(shift) % CLASSES, CLASSES).double() for shift in (0, 2))
    shares = {"two labels": 0.7 * first + 0.3 * second, "smoothed": 0.9 * first + 0.1 / CLASSES, "one label": first}[
        kind
    ]
    found = dkd(student, teacher, temperature=2.0, labels=shares)
    of_each = [dkd(student, teacher, temperature=2.0, labels=torch.full((ROWS,), c)) for c in range(CLASSES)]
    expected = (shares * torch.stack(of_each, -1)).sum(-1)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(of.sum(), student, retain_graph=True)[0] for of in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-10)
