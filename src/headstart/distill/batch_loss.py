"""From what the teachers gave to the losses of a batch, of which they may have seen a part only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from headstart.distill.asking.ask_teachers import Asked, Asking
from headstart.distill.fused import (
    FusedLoss,
    cross_entropy,
    fused_loss,
    fused_terms,
    linear_cross_entropy,
    linear_losses,
    linear_sparse_loss,
    sparse_loss,
)
from headstart.distill.fused.tally import Count
from headstart.distill.heads.several import Output
from headstart.distill.objective import Objective
from headstart.distill.projection import Projection


def distillation_loss(
    asked: Sequence[Asked], objective: Objective, outputs: Sequence[Output], num_items: Count | None
) -> Tensor:
    """The distillation loss alone, the mean of the heads'; the arguments are those of `Distiller.__call__`."""
    losses = [_of_head(*pair, objective, num_items) for pair in zip(asked, outputs, strict=True)]
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()


def _of_head(asked: Asked, output: Output, objective: Objective, num_items: Count | None) -> Tensor:
    logits, labels = output
    rows, labels, num_items = asked.distilled(logits, labels, num_items)
    if asked.sparse is not None:
        return sparse_loss(asked.sparse, rows, objective.loss.function, keep=asked.keep, num_items=num_items)
    return objective(rows, asked.logits, asked.shares, keep=asked.keep, labels=labels, num_items=num_items)


def both_losses(
    asked: Asked,
    objective: Objective,
    logits: Tensor,
    labels: Tensor,
    *,
    weight: float,
    label_smoothing: float,
    num_items: Count | None,
) -> FusedLoss:
    """Task and distillation loss, in one pass; the arguments are those of `Distiller.loss`.

    Where part of the batch is distilled, each loss takes a pass of its own, over its own rows.
    """
    rows, classes, items = asked.distilled(logits, labels, num_items)
    whole = asked.part is None
    result = fused_loss(
        rows,
        cast(Tensor, classes),
        asked.logits,
        objective=objective,
        weight=weight if whole else 1.0,
        shares=asked.shares,
        keep=asked.keep,
        label_smoothing=label_smoothing,
        num_items=items,
    )
    if whole:
        return result
    rows, classes = logits.flatten(0, -2), labels.flatten()
    task = cross_entropy(rows, classes, label_smoothing=label_smoothing, num_items=num_items)
    return result._replace(loss=(1.0 - weight) * task + weight * result.loss, task=task.detach())


def projected_losses(
    asking: Asking,
    asked: Asked,
    objective: Objective,
    student: Projection,
    labels: Tensor,
    *,
    weight: float,
    label_smoothing: float,
    num_items: Count | None,
) -> tuple[Tensor, ...]:
    """Both losses of a student whose logits do not exist, otherwise as `both_losses`; which are first, then the rest.

    Args:
        asking: Told which rows of teachers were finite, where their logits do not exist either.
        asked: What the teachers gave.
        objective: What is done with it.
        student: Hidden states `[rows, features]`, and the head.
        labels: `[rows]` of int64.
        weight: As in `Distiller`.
        label_smoothing: As there.
        num_items: As there.
    """
    hidden, classes, items = asked.distilled(student.hidden, labels, num_items)
    rows, classes = student._replace(hidden=hidden), cast(Tensor, classes)
    whole = asked.part is None
    share = weight if whole else 1.0
    found: tuple[Tensor, ...]
    if asked.sparse is not None:
        loss_of = objective.loss.function
        found = linear_sparse_loss(
            rows, classes, asked.sparse, loss_of, weight=share, keep=asked.keep, label_smoothing=label_smoothing,
            num_items=items,
        )  # fmt: skip
    else:
        terms = fused_terms(objective, asked.shares, len(asked.dense), label_smoothing)
        found, finite = linear_losses(rows, classes, asked.dense, terms, weight=share, keep=asked.keep, num_items=items)
        asking.mark(asked, finite)
    if whole:
        return found
    task = linear_cross_entropy(student, labels, label_smoothing=label_smoothing, num_items=num_items)
    return (1.0 - weight) * task + weight * found[0], task.detach(), *found[2:]
