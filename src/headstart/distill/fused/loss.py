"""Task and distillation loss in one pass over the logits, with the gradient computed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.fused.known_gradient import Computed, with_known_gradient
from headstart.distill.fused.rows import fill, values_by_torch
from headstart.distill.fused.tally import Count, FusedLoss, Tally, tally
from headstart.distill.fused.terms import Rows, Terms
from headstart.distill.losses import widen
from headstart.distill.objective import IGNORED, Objective
from headstart.errors import HeadstartError

# Logits (rows times classes) from which on the pass is faster than torch's own functions: measured on the CPU, with a
# distillation loss and without.
_MANY, _MANY_WITHOUT = 2**17, 2**21


def fused_loss(
    student: Tensor,
    labels: Tensor,
    teachers: Sequence[Tensor],
    *,
    objective: Objective,
    weight: float,
    shares: Sequence[float] | None = None,
    keep: Tensor | None = None,
    label_smoothing: float = 0.0,
    num_items: Count | None = None,
) -> FusedLoss:
    """Cross-entropy and distillation loss of logits, computed together.

    From 2^17 logits (rows times classes) on it is one pass, a few rows at a time. The gradient is then computed in the
    forward, into one tensor of the logits' shape and dtype, and nothing else of that size exists; so there is no second
    derivative, and `torch.compile` breaks its graph here. Fewer logits go through torch's own functions, which are
    faster for those; the result is the same.

    Args:
        student: Logits, `[rows, classes]`.
        labels: `[rows]` of int64; rows labelled -100 count in neither loss.
        teachers: Logits of each teacher, `[rows, classes]`, without gradient. At least one.
        objective: The distillation loss, from `build_objective`: any of `LOSSES` but `dist`.
        weight: Of the distillation loss, in [0, 1].
        shares: The teachers' weights in their mean, summing to 1; equal by default.
        keep: Rows that may be distilled, `[rows]` of bool; what the teachers gave for the others has no effect. By
            default all; the Distiller gives those that are finite in all teachers.
        label_smoothing: As in `torch.nn.functional.cross_entropy`; the teachers' targets are not smoothed.
        num_items: Divides both sums over rows. By default each loss is the mean over its rows; 0 where there are none.

    Returns:
        The loss and its parts, in at least float32.

    Raises:
        HeadstartError: Shapes do not fit, or the loss does not look at one row at a time.

    Example:
        >>> from headstart.distill import build_objective
        >>> student, teacher = torch.zeros(2, 3, requires_grad=True), torch.eye(2, 3)
        >>> labels, objective = torch.tensor([0, 1]), build_objective("kl", temperature=2.0)
        >>> result = fused_loss(student, labels, [teacher], objective=objective, weight=0.5)
        >>> result.loss.backward()
        >>> round(result.task.item(), 4), result.teacher_accuracy.item()
        (1.0986, 1.0)
    """
    check_labels(labels, student)
    _check_shapes(student, teachers)
    terms = fused_terms(objective, shares, len(teachers), label_smoothing)
    rows = Rows(student, [teacher.detach() for teacher in teachers], labels, keep)
    return _joint(rows, terms, tally(labels, keep, weight, num_items))


def cross_entropy(
    logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0, num_items: Count | None = None
) -> Tensor:
    """The task loss alone, computed in the same way from 2^21 logits on: a baseline profits as well.

    Args:
        logits: `[rows, classes]`.
        labels: `[rows]` of int64; rows labelled -100 do not count.
        label_smoothing: As in `torch.nn.functional.cross_entropy`.
        num_items: Divides the sum over rows; by default their number.

    Returns:
        A scalar, in at least float32; 0 where no row counts.

    Example:
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([3, -100]))
        tensor(1.3863)
    """
    if _worthwhile(logits, _MANY_WITHOUT):
        rows = Rows(logits, [], labels, None)
        return _in_chunks(rows, Terms(None, (), label_smoothing), tally(labels, None, 0.0, num_items)).loss
    total = F.cross_entropy(
        widen(logits), labels, ignore_index=IGNORED, label_smoothing=label_smoothing, reduction="sum"
    )
    return total / ((labels != IGNORED).sum().clamp(min=1) if num_items is None else num_items)


def fusable(objective: Objective) -> bool:
    """Whether the loss looks at one row at a time, and has a gradient for nothing but the student's logits."""
    return objective.head == "classes" and objective.known and not objective.loss.across_rows


def fused_terms(objective: Objective, shares: Sequence[float] | None, teachers: int, label_smoothing: float) -> Terms:
    """What to compute; the arguments are those of `fused_loss`.

    Raises:
        HeadstartError: The loss does not look at one row at a time, or there are no teachers.
    """
    if not fusable(objective):
        raise HeadstartError(
            "the fused loss takes kl, reverse_kl, jsd, mse, huber and dkd of classes, which look at one row at a time; "
            "for others call distiller(loss, logits, inputs)"
        )
    if not teachers:
        raise HeadstartError("the fused loss needs at least one teacher; for the task loss alone call cross_entropy")
    return Terms(objective, tuple(shares or [1.0 / teachers] * teachers), label_smoothing)


def worthwhile(logits: Tensor) -> bool:
    """Whether there are so many logits that it is faster to go through them in chunks, with a gradient on the way."""
    return _worthwhile(logits, _MANY)


def _worthwhile(logits: Tensor, many: int) -> bool:
    return torch.is_grad_enabled() and logits.requires_grad and logits.numel() >= many


def _joint(rows: Rows, terms: Terms, count: Tally) -> FusedLoss:
    if worthwhile(rows.student):
        return _in_chunks(rows, terms, count)
    with torch.autocast(rows.student.device.type, enabled=False):
        return count.result(values_by_torch(rows, terms)).detached_parts()


def _in_chunks(rows: Rows, terms: Terms, count: Tally) -> FusedLoss:
    def compute() -> Computed:
        logits = rows.student.detach()
        values = logits.new_zeros(5, len(logits), dtype=torch.promote_types(logits.dtype, torch.float32))
        gradient, excess = torch.empty_like(logits), count.excess(logits.dtype)
        with torch.autocast(logits.device.type, enabled=False):
            factors = count.factors(values.dtype, excess)
            fill(replace(rows, student=logits), terms, factors, values, gradient)
            return count.result(values), [gradient], excess

    return FusedLoss(*with_known_gradient(compute, rows.student))


def check_labels(labels: Tensor, rows: Tensor) -> None:
    """Raise a HeadstartError unless there is one label for each row."""
    if labels.shape != rows.shape[:1]:
        raise HeadstartError(
            f"labels of shape {tuple(labels.shape)} do not fit {len(rows)} rows; give one class index for each row"
        )


def _check_shapes(student: Tensor, teachers: Sequence[Tensor]) -> None:
    for teacher in teachers:
        if teacher.shape != student.shape or student.dim() != 2:
            raise HeadstartError(
                f"logits of shapes {tuple(student.shape)} (student) and {tuple(teacher.shape)} (teacher) do not fit; "
                "both must be [rows, classes], of the same rows and classes"
            )
