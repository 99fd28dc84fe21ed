"""The task loss that goes with each kind of head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.fused import cross_entropy
from headstart.distill.fused.tally import Count
from headstart.distill.heads.several import Output
from headstart.distill.losses import widen
from headstart.distill.objective import Objective, labelled
from headstart.errors import HeadstartError


def is_class_index(labels: Tensor | None) -> TypeGuard[Tensor]:
    """Whether labels, of classes, are their indices and no probabilities."""
    return labels is not None and not labels.is_floating_point()


def task_loss(
    outputs: Sequence[Output], objective: Objective, *, label_smoothing: float = 0.0, num_items: Count | None = None
) -> Tensor:
    """Cross-entropy for classes, binary cross-entropy for labels, squared error for values; the mean of several heads.

    Args:
        outputs: Of each head logits `[..., outputs]`, and labels `[...]` of int64 or `[..., outputs]`; what is labelled
            -100, or NaN, does not count.
        objective: Tells what a row means.
        label_smoothing: As in `torch.nn.functional.cross_entropy`; for classes alone.
        num_items: Divides the sum; by default the number of rows that count, or of outputs for labels and values.

    Returns:
        A scalar, in at least float32; 0 where nothing counts.

    Raises:
        HeadstartError: A head has no labels, they are no indices of classes, or smoothing is asked for where there are
            none.

    Example:
        >>> from headstart.distill import build_objective
        >>> objective = build_objective("mse", 1.0, head="values")
        >>> task_loss([Output(torch.tensor([[1.0], [5.0]]), torch.tensor([[3.0], [-100.0]]))], objective)
        tensor(4.)
    """
    losses = []
    for logits, labels in outputs:
        if labels is None:
            raise HeadstartError("the task loss needs the labels of every head; give them, or compute it yourself")
        rows = labels.flatten(0, -2) if labels.dim() == logits.dim() else labels.flatten()
        losses.append(_of_head(logits.flatten(0, -2), rows, objective, label_smoothing, num_items))
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()


def _of_head(
    logits: Tensor, labels: Tensor, objective: Objective, label_smoothing: float, num_items: Count | None
) -> Tensor:
    if objective.head == "classes" and labels.dim() == 1:
        if labels.is_floating_point():
            raise HeadstartError(
                f"labels are {labels.dtype}, and the cross-entropy of classes takes their indices as int64; for "
                "numbers (regression) set head='values', for a yes-or-no logit head='labels', or compute the task loss "
                "yourself and call distiller(loss, logits, inputs)"
            )
        return cross_entropy(logits, labels, label_smoothing=label_smoothing, num_items=num_items)
    if objective.head != "classes" and label_smoothing:
        raise HeadstartError(
            f"label_smoothing is for classes, and head={objective.head!r}; compute the task loss yourself and call "
            "distiller(loss, logits, inputs)"
        )
    counted = labelled(labels)
    with torch.autocast(logits.device.type, enabled=False):
        logits = widen(logits)
        target = torch.where(counted, labels, 0).to(logits.dtype)
        if objective.head == "classes":
            counted = counted.any(-1)
            values = F.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")
        elif objective.head == "labels":
            values = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        else:
            values = (logits - target).square()
        total = torch.where(counted, values, 0.0).sum()
        return total / (counted.sum().clamp(min=1) if num_items is None else num_items)
