"""The mean of a loss over sparse targets, from many logits on a few rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from headstart.distill.fused.known_gradient import Computed, with_known_gradient
from headstart.distill.fused.loss import worthwhile
from headstart.distill.fused.rows import rows_of_chunk
from headstart.distill.fused.tally import Count
from headstart.distill.losses import LossFunction, widen
from headstart.distill.targets.sparse import Sparse


def sparse_loss(
    target: Sparse, student: Tensor, loss: LossFunction, *, keep: Tensor, num_items: Count | None = None
) -> Tensor:
    """The mean of a loss over the rows that count, in at least float32 whatever autocast says.

    From 2^17 logits (rows times classes) on the gradient is computed in the forward, as in `fused_loss`: of the logits'
    size there is nothing but that gradient, in their dtype.

    Args:
        target: What the teacher gave.
        student: Logits, `[rows, classes]`.
        loss: One of the target's `losses`.
        keep: The rows that count, `[rows]` of bool, or one for all.
        num_items: Divides the sum over rows; by default the number of rows that count.

    Returns:
        A scalar; 0 where no row counts.
    """
    keep = keep.expand(len(student))
    with torch.autocast(student.device.type, enabled=False):
        if worthwhile(student):
            total = _sum_in_chunks(target, student, loss, keep)
        else:
            total = torch.where(keep, target.values(student, loss), 0.0).sum()
        return total / (keep.sum().clamp(min=1) if num_items is None else num_items)


def _sum_in_chunks(target: Sparse, student: Tensor, loss: LossFunction, keep: Tensor) -> Tensor:
    """The sum and not the mean: its gradient has entries that float16 can hold."""

    def compute() -> Computed:
        gradient = torch.empty_like(student)
        total = student.new_zeros((), dtype=torch.promote_types(student.dtype, torch.float32))
        size = rows_of_chunk(student)
        for begin in range(0, len(student), size):
            chunk = slice(begin, begin + size)
            logits = widen(student[chunk]).detach().requires_grad_()
            with torch.enable_grad():
                part = torch.where(keep[chunk], target.part(chunk).values(logits, loss), 0.0).sum()
                (gradient[chunk],) = torch.autograd.grad(part, logits)
            total += part.detach()
        return [total], [gradient], None

    return with_known_gradient(compute, student)[0]
