"""Sparse targets in chunks: the same loss and gradient as all rows at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstart.distill import kl
from headstart.distill.fused import loss as fused_loss
from headstart.distill.fused import sparse_loss
from headstart.distill.targets.sparse import TopK, sampled_target, top_k_target
from headstart.errors import HeadstartError

Make = Callable[..., Tensor]
ROWS, CLASSES = 9, 7
TARGETS: dict[str, Callable[[Tensor], Any]] = {
    "top-k": lambda teacher: top_k_target(teacher, 3, 2.0),
    "sampled": lambda teacher: sampled_target(teacher, 5, 2.0, torch.full((ROWS,), 0.3, dtype=torch.float64)),
}
KEEP = torch.tensor([True, True, False, True, False, True, True, True, True])


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, logits: Make) -> Any:
    return TARGETS[request.param](logits(ROWS, CLASSES))


def whole(target: Any, student: Tensor, keep: Tensor, items: int | None, loss: Any = kl) -> Tensor:
    """The definition."""
    values: Tensor = target.values(student, loss)[keep.expand(ROWS)]
    return values.sum() / (items or max(1, len(values)))


@pytest.mark.usefixtures("always_fused")
class TestChunks:
    @pytest.mark.parametrize("items", [None, 11])
    @pytest.mark.parametrize("keep", [torch.tensor(True), KEEP, ~KEEP & KEEP], ids=["all", "some", "none"])
    def test_are_all_rows_at_once(self, keep: Tensor, items: int | None, target: Any, logits: Make) -> None:
        student = logits(ROWS, CLASSES).requires_grad_()
        found, expected = (
            sparse_loss(target, student, kl, keep=keep, num_items=items),
            whole(target, student, keep, items),
        )
        torch.testing.assert_close(found, expected)
        for loss in (found, 3.0 * found):
            (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
            (other,) = torch.autograd.grad(expected, student, retain_graph=True)
            torch.testing.assert_close(gradient, other * (1.0 if loss is found else 3.0))

    @pytest.mark.parametrize("loss", TopK.losses, ids=lambda loss: loss.__name__)
    def test_of_every_loss(self, loss: Any, logits: Make) -> None:
        student, target = logits(ROWS, CLASSES).requires_grad_(), TARGETS["top-k"](logits(ROWS, CLASSES))
        found = sparse_loss(target, student, loss, keep=KEEP)
        gradients = [
            torch.autograd.grad(value, student)[0] for value in (found, whole(target, student, KEEP, None, loss))
        ]
        torch.testing.assert_close(*gradients)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_in_half_precision_under_autocast(self, dtype: torch.dtype, target: Any, logits: Make) -> None:
        """The loss is in float32, the gradient in the logits' dtype, and no entry of it is lost to that dtype."""
        student = logits(ROWS, CLASSES).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = sparse_loss(target, student, kl, keep=KEEP, num_items=10**6)
        assert found.dtype == torch.float32
        (gradient,) = torch.autograd.grad(found * 2.0**20, student)  # as GradScaler does
        exact = student.detach().double().requires_grad_()
        (expected,) = torch.autograd.grad(whole(target, exact, KEEP, 10**6) * 2.0**20, exact)
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient.double(), expected, rtol=2e-2, atol=2e-2)

    def test_has_no_second_derivative(self, target: Any, logits: Make) -> None:
        student = logits(ROWS, CLASSES).requires_grad_()
        with pytest.raises(HeadstartError, match="no second derivative"):
            torch.autograd.grad(sparse_loss(target, student, kl, keep=KEEP), student, create_graph=True)


def test_few_logits_go_all_at_once(target: Any, logits: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_loss, "_MANY", ROWS * CLASSES + 1)
    student = logits(ROWS, CLASSES).requires_grad_()
    (gradient,) = torch.autograd.grad(sparse_loss(target, student, kl, keep=KEEP), student, create_graph=True)
    assert gradient.requires_grad
