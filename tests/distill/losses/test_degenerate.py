"""Losses of equal, constant, tiny and huge logits: finite and bounded, in every precision and at every temperature."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstart.distill import LOSSES, build_objective, fused_loss
from headstart.distill.fused import loss as fused_module
from headstart.distill.fused import rows as fused_rows
from headstart.distill.heads.head import LOSSES_OF, Head

ROWS, CLASSES = 4, 5
LABELS, KEEP = torch.tensor([0, 4, 2, 2]), torch.ones(ROWS, dtype=torch.bool)
CASES: list[tuple[Head, str]] = [(head, name) for head in LOSSES_OF for name in LOSSES_OF[head]]
SIZES = [0.0, 1e-30, 1e-6, 1e-3, 1.0, 30.0, 1e4, 65504.0]


@st.composite
def _logits(draw: Any) -> Tensor:
    """Signs and shares of one size, about a constant: what a half can hold."""
    size, constant = draw(st.sampled_from(SIZES)), draw(st.sampled_from([0.0, 7.0, -300.0]))
    shares = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0])
    values = draw(st.lists(shares, min_size=ROWS * CLASSES, max_size=ROWS * CLASSES))
    logits: Tensor = (size * torch.tensor(values).view(ROWS, CLASSES) + constant).clamp(-65504.0, 65504.0)
    return logits


DRAWN = {
    "student": _logits(),
    "teacher": _logits(),
    "temperature": st.floats(0.05, 20.0),
    "dtype": st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
}


def _gradient(value: Tensor, student: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, student)
    return gradient


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(("head", "name"), CASES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(**DRAWN)
def test_values_and_gradients_are_bounded(
    head: Head, name: str, standardize: bool, student: Tensor, teacher: Tensor, temperature: float, dtype: torch.dtype
) -> None:
    if standardize and head != "classes":
        return
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    value = build_objective(name, temperature, standardize, None, head)(
        student,
        [teacher],
        [1.0],
        keep=KEEP.unsqueeze(-1).expand_as(teacher) if head != "classes" else KEEP,
        labels=LABELS,
    )
    gradient = _gradient(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()
    # T of a divergence, 8 times as much of dkd, 100 where a spread is divided by (twice, where dist is of standardised
    # logits); and the differences of the logits.
    bound = 1000.0 * (100 if standardize and name == "dist" else 1)
    differences = 0.0 if standardize else float((student.detach().float() - teacher.float()).abs().max())
    assert gradient.float().norm() <= bound * (1 + temperature) + 2 * differences


@pytest.mark.parametrize("name", [name for name in LOSSES if not LOSSES[name].across_rows])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(**DRAWN)
def test_in_chunks_as_by_autograd(
    name: str, student: Tensor, teacher: Tensor, temperature: float, dtype: torch.dtype
) -> None:
    leaf, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    objective = build_objective(name, temperature)
    results = []
    for many in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fused_module, "_MANY", many)
            patch.setattr(fused_rows, "_elements", lambda _: 2 * CLASSES)
            result = fused_loss(leaf, LABELS, [teacher], objective=objective, weight=1.0)
            results.append((result.distill, _gradient(result.loss, leaf).float()))
    (value, gradient), (expected, other) = results
    scale = 1.0 + float((leaf.detach().float() - teacher.float()).abs().max())
    torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5 * scale * (1 + temperature) ** 2)
    torch.testing.assert_close(gradient, other, rtol=2e-2, atol=1e-4 * scale * (1 + temperature))


@pytest.mark.parametrize("temperature", [0.05, 1.0, 4.0, 20.0])
@pytest.mark.parametrize(("name", "standardize"), [("dist", False), ("kl", True), ("mse", True)])
def test_equal_logits_pull_as_hard_as_those_beside_them(name: str, standardize: bool, temperature: float) -> None:
    """A classifier that starts from zeros gives them in the first step."""
    generator = torch.Generator().manual_seed(0)
    noise, teacher = torch.randn(16, 10, generator=generator), 3 * torch.randn(16, 10, generator=generator)
    norms = []
    for spread in (0.0, 1e-3):
        student = (spread * noise).requires_grad_()
        objective = build_objective(name, temperature, standardize)
        value = objective(student, [teacher], [1.0], keep=torch.ones(16, dtype=torch.bool))
        norms.append(_gradient(value, student).norm().item())
    assert 0.1 < norms[0] / norms[1] < 10
