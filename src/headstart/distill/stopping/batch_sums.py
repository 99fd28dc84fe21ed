"""What an automatic stop has to know of a batch: six sums over rows, from logits and labels alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.losses import widen

SUMS = 6
# Logits (rows times classes) of which all rows are looked at; of more a part of the rows, and never fewer than this.
# Whatever the vocabulary, the look is then small beside the loss.
_LOGITS, _ROWS = 2**17, 16


def batch_sums(student: Tensor, teacher: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
    """Of the rows that count: their number, the task losses of student and teacher, and what the cosine is made of.

    The gradient of the cross-entropy for the student's logits is `s - y`: its probabilities less the label. That of
    KL(teacher || student) at T = 1 is `s - t`. Both have no backward pass in them. Sums add up over micro-batches,
    processes and steps, so that it does not matter how a batch is cut.

    T = 1 whatever the loss and its temperature, as the question is the same: would the student come nearer to the
    labels if it came nearer to the teacher? The expectation of `(s - y) . (s - t)` over labels is
    `(s - P) . (s - t)` for the true probabilities P of the row: positive as long as a small step to the teacher lowers
    the student's squared distance from P.

    Args:
        student: Logits, `[rows, classes]`.
        teacher: Logits, `[rows, classes]`; what is there in rows that do not count has no effect.
        labels: `[rows]` of int64, or probabilities `[rows, classes]`.
        keep: The rows that count, `[rows]` of bool, or one for all.

    Returns:
        `[6]`, without gradient, in at least float32: the number of rows, the sums of both cross-entropies, of
        `(s - y) . (s - t)`, of `|s - y|^2`, of `|s - t|^2`. Where there are more than 2^17 logits, of a part of the
        rows that lies evenly among those that count.

    Example:
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[9.0, 0.0]])
        >>> rows, own, its, dot, task, distill = batch_sums(student, teacher, torch.tensor([0]), torch.tensor(True))
        >>> round((dot / (task * distill).sqrt()).item(), 3)  # the teacher is right, and sure of it
        1.0
    """
    with torch.no_grad(), torch.autocast(student.device.type, enabled=False):
        keep = keep.expand(len(student))
        index = rows_looked_at(keep, student.shape[-1])
        if index is not None:
            student, teacher, labels, keep = student[index], teacher[index], labels[index], keep[index]
        counts = keep.unsqueeze(-1)
        log_s = F.log_softmax(widen(student.detach()), -1)
        log_t = F.log_softmax(torch.where(counts, widen(teacher), 0.0), -1)
        target = as_probabilities(labels, log_s)
        s = log_s.exp()
        task, distill = s - target, s - log_t.exp()
        of_each_row = torch.stack(
            [
                torch.ones_like(log_s[:, 0]),
                -(target * log_s).sum(-1),
                -(target * log_t).sum(-1),
                (task * distill).sum(-1),
                task.square().sum(-1),
                distill.square().sum(-1),
            ]
        )
        return torch.where(keep, of_each_row, 0.0).sum(-1)


def cosine(dot: float, task: float, distill: float) -> float:
    """The cosine between two gradients, from sums over rows; 0 where one has no length.

    Example:
        >>> cosine(1.0, 4.0, 1.0)
        0.5
    """
    length = (task * distill) ** 0.5
    return dot / length if length > 0.0 else 0.0


def as_probabilities(labels: Tensor, like: Tensor) -> Tensor:
    """Labels as probabilities; of rows that do not count, anything finite."""
    if labels.dim() == like.dim():
        return labels.to(like.dtype).nan_to_num(0.0).clamp(min=0.0)
    return torch.zeros_like(like).scatter_(-1, labels.clamp(min=0).unsqueeze(-1), 1.0)


def rows_looked_at(keep: Tensor, classes: int) -> Tensor | None:
    """Which rows to look at, evenly among those that count, found without waiting for the device; None: all."""
    rows = max(_ROWS, _LOGITS // classes)
    if rows >= len(keep):
        return None
    so_far = keep.cumsum(0)
    places = (torch.arange(rows, device=keep.device) + 0.5) * (so_far[-1] / rows)
    return torch.searchsorted(so_far, places.ceil().to(so_far.dtype)).clamp(max=len(keep) - 1)
