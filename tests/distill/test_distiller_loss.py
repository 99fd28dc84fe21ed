"""`Distiller.loss`, both losses in one: the same as two, however many the logits are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import LOSSES, Distiller, TeacherPool
from headstart.distill.fused import loss as fused_loss
from headstart.distill.fused import rows
from headstart.errors import HeadstartError, TeacherError
from tests.distill.batch import CLASSES, FEATURES, INPUTS, LABELS

Counting = Callable[..., Any]
Make = Callable[..., Tensor]
Give = Callable[[object], nn.Module]
SOME = torch.where(LABELS == 2, -100, LABELS)


@pytest.fixture(params=[True, False], ids=["many logits", "few logits"])
def fused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Let the batch count as many logits, so that the one pass is taken, or as few."""
    if request.param:
        monkeypatch.setattr(fused_loss, "_MANY", 0)
        monkeypatch.setattr(fused_loss, "_MANY_WITHOUT", 0)
        monkeypatch.setattr(rows, "_elements", lambda _: 3 * CLASSES)
    yield request.param


def _was_fused(loss: Tensor, student: nn.Module) -> bool:
    """The one pass has no second derivative."""
    try:
        torch.autograd.grad(loss, list(student.parameters()), create_graph=True)
    except HeadstartError:
        return True
    return False


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"num_items": 5}], ids=str)
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_is_the_task_loss_and_the_call(
    name: str, standardize: bool, options: dict[str, Any], fused: bool, student: nn.Module, counting: Counting
) -> None:
    pool = TeacherPool([counting() for _ in range(3)], draw=2)
    distiller = Distiller(pool, total_steps=10, loss=name, standardize=standardize, weight=0.7)
    logits, items = student(INPUTS), options.get("num_items")
    loss = distiller.loss(logits, SOME, INPUTS, **options)
    reduction, smoothing = "mean" if items is None else "sum", options.get("label_smoothing", 0.0)
    task = F.cross_entropy(logits, SOME, label_smoothing=smoothing, reduction=reduction) / (items or 1)
    expected = distiller(task, logits, INPUTS, labels=SOME, num_items=items)
    torch.testing.assert_close(loss, expected)
    parameters = list(student.parameters())
    gradients = [torch.autograd.grad(of, parameters, retain_graph=True) for of in (loss, expected)]
    torch.testing.assert_close(*gradients)
    assert _was_fused(loss, student) == fused


def test_of_tokens(fused: bool, logits: Make, given: Give) -> None:
    student, teacher, labels = logits(2, 4, CLASSES).requires_grad_(), logits(2, 4, CLASSES), SOME.view(2, 4)
    distiller = Distiller(given(teacher), total_steps=1, stop=1.0)
    loss = distiller.loss(student, labels, INPUTS)
    task = F.cross_entropy(student.flatten(0, 1), SOME)
    torch.testing.assert_close(loss, distiller(task, student, INPUTS, labels=labels))
    assert torch.autograd.grad(loss, student)[0].shape == student.shape


def test_off_the_window_is_the_task_loss(fused: bool, student: nn.Module, counting: Counting) -> None:
    teacher = counting()
    distiller = Distiller(teacher, total_steps=10, stop=0.5, every=2)
    for step in (1, 7):
        distiller.current_step = step
        loss = distiller.loss(student(INPUTS), SOME, INPUTS, label_smoothing=0.1)
        torch.testing.assert_close(loss, F.cross_entropy(student(INPUTS), SOME, label_smoothing=0.1))
        assert _was_fused(loss, student) == fused
    assert (teacher.calls, distiller.last) == (0, None)


@pytest.mark.usefixtures("fused")
def test_evaluation(student: nn.Module, counting: Counting) -> None:
    teacher = counting()
    distiller = Distiller(teacher, total_steps=10)
    with torch.no_grad():
        loss = distiller.loss(student(INPUTS), SOME, INPUTS)
    torch.testing.assert_close(loss, F.cross_entropy(student(INPUTS), SOME).detach())
    assert (teacher.calls, distiller.last) == (0, None)


@pytest.mark.usefixtures("fused")
def test_tells_losses_and_accuracies(student: nn.Module, counting: Counting) -> None:
    teacher = counting()
    distiller = Distiller(teacher, total_steps=10, weight=0.25)
    loss = distiller.loss(student(INPUTS), SOME, INPUTS)
    last, count = distiller.last, SOME != -100
    ours, theirs = student(INPUTS).argmax(-1)[count], teacher(INPUTS).argmax(-1)[count]
    assert last is not None
    assert last.task_loss == pytest.approx(F.cross_entropy(student(INPUTS), SOME).item())
    assert 0.75 * last.task_loss + 0.25 * last.distill_loss == pytest.approx(loss.item())
    assert last.agreement == pytest.approx((ours == theirs).float().mean().item())
    assert last.student_accuracy == pytest.approx((ours == SOME[count]).float().mean().item())
    assert last.teacher_accuracy == pytest.approx((theirs == SOME[count]).float().mean().item())


@pytest.mark.parametrize("together", [True, False])
def test_tells_no_accuracies_it_does_not_know(together: bool, student: nn.Module, counting: Counting) -> None:
    distiller = Distiller(counting(), total_steps=10, loss="dist" if together else "kl")
    if together:
        distiller.loss(student(INPUTS), LABELS, INPUTS)
    else:
        distiller(student(INPUTS).sum(), student(INPUTS), INPUTS)
    assert distiller.last is not None
    assert (distiller.last.agreement, distiller.last.student_accuracy, distiller.last.teacher_accuracy) == (None,) * 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.usefixtures("fused")
def test_rows_without_finite_targets_are_left_out_and_told(bad: float, logits: Make, given: Give) -> None:
    student, teacher = logits(8, CLASSES).requires_grad_(), logits(8, CLASSES)
    sick = teacher.clone()
    sick[3, 1] = bad
    losses = [
        Distiller(given(target), total_steps=9, stop=1.0, weight=1.0).loss(student, labels, INPUTS)
        for target, labels in ((sick, LABELS), (teacher, LABELS.where(torch.arange(8) != 3, -100)))
    ]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(*(torch.autograd.grad(loss, student)[0] for loss in losses))
    distiller = Distiller(given(sick), total_steps=9, stop=1.0)
    distiller.loss(student, LABELS, INPUTS)
    distiller.step()
    with pytest.raises(TeacherError, match="gave non-finite logits at step 0"):
        distiller.step()


@pytest.mark.parametrize("sizes", [[3, 5], [1, 1, 6]], ids=str)
@pytest.mark.usefixtures("fused")
def test_micro_batches_add_up(sizes: list[int], counting: Counting) -> None:
    student = nn.Linear(FEATURES, CLASSES)
    distiller = Distiller([counting() for _ in range(3)], total_steps=10)
    expected = torch.autograd.grad(distiller.loss(student(INPUTS), SOME, INPUTS), list(student.parameters()))
    for x, y in zip(torch.split(INPUTS, sizes), torch.split(SOME, sizes), strict=True):
        torch.autograd.backward(distiller.loss(student(x), y, x, num_items=(SOME != -100).sum()))
    torch.testing.assert_close(tuple(parameter.grad for parameter in student.parameters()), expected)


@pytest.mark.usefixtures("fused")
def test_half_precision_logits_give_a_loss_in_float32(logits: Make, given: Give) -> None:
    student, teacher = logits(8, CLASSES).bfloat16().requires_grad_(), logits(8, CLASSES).bfloat16()
    distiller = Distiller(given(teacher), total_steps=10, stop=0.5)
    for step in (0, 7):
        distiller.current_step = step
        loss = distiller.loss(student, LABELS, INPUTS)
        assert loss.dtype == torch.float32
        assert torch.autograd.grad(loss, student)[0].dtype == torch.bfloat16
