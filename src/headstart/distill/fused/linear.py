"""Task and distillation loss from hidden states and a linear head: no model's logits ever exist in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.fused.known_gradient import Computed, Gradients, with_known_gradient
from headstart.distill.fused.loss import check_labels, fused_terms
from headstart.distill.fused.rows import chunks, fill
from headstart.distill.fused.tally import Count, FusedLoss, Tally, tally
from headstart.distill.fused.terms import Rows, Terms
from headstart.distill.nonfinite import finite_rows
from headstart.distill.objective import Objective
from headstart.errors import HeadstartError

_CHUNK = 2**24  # logits that exist at a time, of each model: enough for fast matrix products


class Projection(NamedTuple):
    """Logits to be: `hidden @ weight.T + bias`.

    Attributes:
        hidden: `[rows, features]`.
        weight: `[classes, features]`.
        bias: `[classes]`, where there is one.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def logits(self, index: slice | Tensor) -> Tensor:
        """Those of some rows."""
        return F.linear(self.hidden[index], self.weight, self.bias)


def fused_linear_loss(
    student: Projection,
    labels: Tensor,
    teachers: Sequence[Projection],
    *,
    objective: Objective,
    weight: float,
    shares: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    num_items: Count | None = None,
) -> FusedLoss:
    """`fused_loss` of logits that are computed, used and dropped some rows at a time.

    The gradients for hidden states, weight and bias are computed in the forward, those for weight and bias summed in at
    least float32. Under autocast the matrix products run in its dtype, as a linear layer's would. The weights must be
    there as a whole: a head sharded by FSDP has to be gathered by its owner first.

    Args:
        student: Its hidden states and head. Gradients go to those of the three that require one.
        labels: As in `fused_loss`.
        teachers: Those of each teacher, without gradient; their numbers of features may be others. Rows in which a
            teacher's logits are not finite add nothing to the distillation loss, but count in its mean.
        objective: As in `fused_loss`.
        weight: As in `fused_loss`.
        shares: As in `fused_loss`.
        label_smoothing: As in `fused_loss`.
        num_items: As in `fused_loss`.

    Returns:
        The loss and its parts, in at least float32.

    Raises:
        HeadstartError: Shapes do not fit, or the loss does not look at one row at a time.

    Example:
        >>> from headstart.distill import build_objective
        >>> head, hidden = torch.nn.Linear(4, 3), torch.zeros(2, 4, requires_grad=True)
        >>> student = Projection(hidden, head.weight, head.bias)
        >>> teacher = Projection(torch.ones(2, 5), torch.ones(3, 5))
        >>> labels, objective = torch.tensor([0, 1]), build_objective("kl", temperature=1.0)
        >>> result = fused_linear_loss(student, labels, [teacher], objective=objective, weight=0.5)
        >>> result.loss.backward()
        >>> head.weight.grad.shape, hidden.grad.shape
        (torch.Size([3, 4]), torch.Size([2, 4]))
    """
    _check_shapes(student, teachers)
    check_labels(labels, student.hidden)
    terms = fused_terms(objective, shares, len(teachers), label_smoothing)
    count = tally(labels, None, weight, num_items)

    def compute() -> Computed:
        return _in_chunks(student, teachers, labels, terms, count)

    return FusedLoss(*with_known_gradient(compute, *student))


class _Gradients:
    """Sums over the rows so far, in the order of `Projection`; None for what requires no gradient."""

    def __init__(self, student: Projection) -> None:
        self._student = student
        self._hidden = torch.zeros_like(student.hidden) if student.hidden.requires_grad else None
        self._weight, self._bias = (
            torch.zeros_like(item, dtype=torch.promote_types(item.dtype, torch.float32))
            if item is not None and item.requires_grad
            else None
            for item in student[1:]
        )

    def add(self, index: slice | Tensor, student: Projection, gradient: Tensor) -> None:
        """Add what follows from the gradient for the logits of some rows."""
        if self._hidden is not None:
            self._hidden[index] = (gradient @ student.weight).to(self._hidden.dtype)
        if self._weight is not None:
            self._weight += gradient.T @ student.hidden[index]
        if self._bias is not None:
            self._bias += gradient.sum(0, dtype=self._bias.dtype)

    def result(self) -> Gradients:
        pairs = zip((self._hidden, self._weight, self._bias), self._student, strict=True)
        return [None if sums is None or of is None else sums.to(of.dtype) for sums, of in pairs]


def _in_chunks(
    student: Projection, teachers: Sequence[Projection], labels: Tensor, terms: Terms, count: Tally
) -> Computed:
    gradients = _Gradients(student)
    here, others = _cast(student), [_cast(teacher) for teacher in teachers]
    dtype = here.hidden.dtype
    values = here.hidden.new_zeros(5, len(labels), dtype=torch.promote_types(dtype, torch.float32))
    excess, finite = count.excess(dtype), torch.ones_like(count.distilled)
    factors = count.factors(values.dtype, excess)
    with torch.autocast(labels.device.type, enabled=False):
        for index in chunks(labels, max(1, _CHUNK // len(here.weight))):
            logits, targets = here.logits(index), [other.logits(index) for other in others]
            keep = torch.stack([finite_rows(target) for target in targets]).all(0)
            part = values.new_empty(5, len(logits))
            these = torch.stack([factors[0, index], factors[1, index] * keep])
            fill(Rows(logits, targets, labels[index], keep), terms, these, part, gradient=logits)
            values[:, index], finite[index] = part, keep
            gradients.add(index, here, logits)
    return replace(count, distilled=count.distilled & finite).result(values), gradients.result(), excess


def _cast(projection: Projection) -> Projection:
    """What autocast would multiply, converted once and not once a chunk."""
    device = projection.hidden.device.type
    if not torch.is_autocast_enabled(device):
        return projection
    dtype = torch.get_autocast_dtype(device)
    hidden, weight, bias = projection
    return Projection(hidden.to(dtype), weight.to(dtype), bias if bias is None else bias.to(dtype))


def _check_shapes(student: Projection, teachers: Sequence[Projection]) -> None:
    rows, classes = len(student.hidden), len(student.weight)
    for name, (hidden, weight, bias) in (("student", student), *(("teacher", teacher) for teacher in teachers)):
        fits = hidden.dim() == weight.dim() == 2 and hidden.shape[1] == weight.shape[1]
        if not fits or len(hidden) != rows or len(weight) != classes or (bias is not None and bias.shape != (classes,)):
            raise HeadstartError(
                f"the {name}'s hidden states {tuple(hidden.shape)} and weight {tuple(weight.shape)} do not fit each "
                f"other or the student's {rows} rows and {classes} classes; give [rows, features] and [classes, "
                "features], and [classes] as the bias"
            )
