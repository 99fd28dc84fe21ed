"""From what the teachers gave to the losses of a batch, of which they may have seen a part only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from headstart.distill.ask_teachers import Asked
from headstart.distill.fused import FusedLoss, cross_entropy, fused_loss, sparse_loss
from headstart.distill.fused.tally import Count
from headstart.distill.heads.several import Output
from headstart.distill.objective import Objective


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
    return objective(rows, asked.dense, asked.shares, keep=asked.keep, labels=labels, num_items=num_items)


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
        asked.dense,
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
