"""Task and distillation loss from hidden states and a linear head: no model's logits ever exist in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.fused.known_gradient import Computed, Gradients, with_known_gradient
from headstart.distill.fused.loss import check_labels, fused_terms
from headstart.distill.fused.rows import chunks, fill, rows_of_chunk
from headstart.distill.fused.tally import Count, FusedLoss, Tally, tally
from headstart.distill.fused.terms import Rows, Terms
from headstart.distill.losses import LossFunction, widen
from headstart.distill.nonfinite import finite_rows
from headstart.distill.objective import Objective
from headstart.distill.projection import Logits, Projection
from headstart.distill.targets.sparse import Sparse
from headstart.errors import HeadstartError

_CHUNK = 2**24  # logits that exist at a time, of each model: enough for fast matrix products

# Given which rows, their logits, and the factors of their two losses' gradients `[2, rows]`: fills in the values,
# `[5, rows]` as in `rows.fill`, and turns the logits into their gradient.
_Chunk = Callable[[slice | Tensor, Tensor, Tensor, Tensor], None]


def fused_linear_loss(
    student: Projection,
    labels: Tensor,
    teachers: Sequence[Logits],
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
        teachers: Those of each teacher, without gradient; their numbers of features may be others. A teacher may give
            its logits instead. Rows in which a teacher's logits are not finite add nothing to the distillation loss,
            but count in its mean.
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
    terms = fused_terms(objective, shares, len(teachers), label_smoothing)
    return linear_losses(student, labels, teachers, terms, weight=weight, keep=None, num_items=num_items)[0]


def linear_losses(
    student: Projection,
    labels: Tensor,
    teachers: Sequence[Logits],
    terms: Terms,
    *,
    weight: float,
    keep: Tensor | None,
    num_items: Count | None,
) -> tuple[FusedLoss, Tensor]:
    """`fused_linear_loss`, and which rows of each teacher were finite, `[teachers, rows]` of bool.

    `keep` is that of `fused_loss`; of logits that come as a whole it may tell already which rows are finite.
    """
    _check_shapes(student, teachers)
    check_labels(labels, student.hidden)
    count = tally(labels, keep, weight, num_items)

    def compute() -> Computed:
        finite = labels.new_ones(len(teachers), len(labels), dtype=torch.bool)
        others = [_cast(teacher) if isinstance(teacher, Projection) else teacher for teacher in teachers]
        chunk = _dense_chunk(others, labels, keep, terms, finite)
        values, gradients, excess = _in_chunks(student, labels, count, chunk)
        found = replace(count, distilled=count.distilled & finite.all(0)).result(values)
        return [*found, finite], gradients, excess

    *losses, finite = with_known_gradient(compute, *student)
    return FusedLoss(*losses), finite


def linear_sparse_loss(
    student: Projection,
    labels: Tensor,
    target: Sparse,
    loss: LossFunction,
    *,
    weight: float,
    keep: Tensor,
    label_smoothing: float = 0.0,
    num_items: Count | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy, and a loss over a sparse target, of logits that never exist in full.

    Args:
        student: As in `fused_linear_loss`.
        labels: As there.
        target: What the teacher gave, of as many rows.
        loss: One of the target's `losses`.
        weight: Of the distillation loss.
        keep: Rows that may be distilled, `[rows]` of bool, or one for all.
        label_smoothing: As in `fused_linear_loss`.
        num_items: As there.

    Returns:
        Both losses weighted, and, without gradient, the task loss and the distillation loss.
    """
    check_labels(labels, student.hidden)
    count = tally(labels, keep.expand(len(labels)), weight, num_items)

    def compute() -> Computed:
        chunk = _sparse_chunk(target, labels, loss, label_smoothing)
        values, gradients, excess = _in_chunks(student, labels, count, chunk)
        return count.result(values)[:3], gradients, excess

    total, task, distill = with_known_gradient(compute, *student)
    return total, task, distill


def linear_cross_entropy(
    student: Projection, labels: Tensor, *, label_smoothing: float = 0.0, num_items: Count | None = None
) -> Tensor:
    """The task loss alone, in the same way: a baseline profits as well. Otherwise as `cross_entropy`.

    Example:
        >>> linear_cross_entropy(Projection(torch.zeros(2, 3), torch.ones(4, 3)), torch.tensor([3, -100]))
        tensor(1.3863)
    """
    _check_shapes(student, [])
    check_labels(labels, student.hidden)
    count, terms = tally(labels, None, 0.0, num_items), Terms(None, (), label_smoothing)

    def chunk(index: slice | Tensor, logits: Tensor, factors: Tensor, values: Tensor) -> None:
        fill(Rows(logits, [], labels[index], None), terms, factors, values, gradient=logits)

    def compute() -> Computed:
        values, gradients, excess = _in_chunks(student, labels, count, chunk)
        return count.result(values)[:1], gradients, excess

    return with_known_gradient(compute, *student)[0]


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
    student: Projection, labels: Tensor, count: Tally, chunk: _Chunk
) -> tuple[Tensor, Gradients, Tensor | float | None]:
    """Values of all rows, `[5, rows]`, gradients for the student, and by how much these are too large."""
    gradients, here = _Gradients(student), _cast(student)
    dtype = here.hidden.dtype
    values = here.hidden.new_zeros(5, len(labels), dtype=torch.promote_types(dtype, torch.float32))
    excess = count.excess(dtype)
    factors = count.factors(values.dtype, excess)
    with torch.autocast(labels.device.type, enabled=False):
        for index in chunks(labels, max(1, _CHUNK // len(here.weight))):
            logits = here.logits(index)
            part = values.new_empty(5, len(logits))
            chunk(index, logits, factors[:, index], part)
            values[:, index] = part
            gradients.add(index, here, logits)
    return values, gradients.result(), excess


def _dense_chunk(
    teachers: Sequence[Logits], labels: Tensor, keep: Tensor | None, terms: Terms, finite: Tensor
) -> _Chunk:
    """What computes some rows beside teachers' logits, and notes in `finite` which of these can be used."""

    def chunk(index: slice | Tensor, logits: Tensor, factors: Tensor, values: Tensor) -> None:
        targets = [one.logits(index) if isinstance(one, Projection) else one[index] for one in teachers]
        found = torch.stack([finite_rows(target) for target in targets])
        finite[:, index] = found
        sound = found.all(0)
        factors = torch.stack([factors[0], factors[1] * sound])
        kept = sound if keep is None else sound & keep[index]
        fill(Rows(logits, targets, labels[index], kept), terms, factors, values, gradient=logits)

    return chunk


def _sparse_chunk(target: Sparse, labels: Tensor, loss: LossFunction, label_smoothing: float) -> _Chunk:
    """What computes some rows beside a sparse target, a few at a time, as autograd keeps several copies of them."""

    def chunk(index: slice | Tensor, logits: Tensor, factors: Tensor, values: Tensor) -> None:
        classes, part = labels[index].clamp(min=0), target.part(index)
        values.zero_()
        size = rows_of_chunk(logits)
        for begin in range(0, len(logits), size):
            few = slice(begin, begin + size)
            leaf = widen(logits[few]).detach().requires_grad_()
            with torch.enable_grad():
                task = F.cross_entropy(leaf, classes[few], reduction="none", label_smoothing=label_smoothing)
                both = torch.stack([task, part.part(few).values(leaf, loss)])
                (gradient,) = torch.autograd.grad((both * factors[:, few]).sum(), leaf)
            values[:2, few] = both.detach()
            logits[few] = gradient.to(logits.dtype)

    return chunk


def _cast(projection: Projection) -> Projection:
    """What autocast would multiply, converted once and not once a chunk."""
    device = projection.hidden.device.type
    if not torch.is_autocast_enabled(device):
        return projection
    dtype = torch.get_autocast_dtype(device)
    hidden, weight, bias = projection
    return Projection(hidden.to(dtype), weight.to(dtype), bias if bias is None else bias.to(dtype))


def _check_shapes(student: Projection, teachers: Sequence[Logits]) -> None:
    rows, classes = len(student.hidden), len(student.weight)
    for name, given in (("student", student), *(("teacher", teacher) for teacher in teachers)):
        if not isinstance(given, Projection):
            if given.shape != (rows, classes):
                raise HeadstartError(
                    f"the {name}'s logits {tuple(given.shape)} do not fit the student's {rows} rows and {classes} "
                    "classes; give [rows, classes]"
                )
            continue
        hidden, weight, bias = given
        fits = hidden.dim() == weight.dim() == 2 and hidden.shape[1] == weight.shape[1]
        if not fits or len(hidden) != rows or len(weight) != classes or (bias is not None and bias.shape != (classes,)):
            raise HeadstartError(
                f"the {name}'s hidden states {tuple(hidden.shape)} and weight {tuple(weight.shape)} do not fit each "
                f"other or the student's {rows} rows and {classes} classes; give [rows, features] and [classes, "
                "features], and [classes] as the bias"
            )
