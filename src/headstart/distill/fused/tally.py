"""Which rows count in which loss, and what the sums over them are divided by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from headstart.distill.objective import IGNORED

Count = float | Tensor


class FusedLoss(NamedTuple):
    """A loss and what it is made of: scalars, of which `loss` alone has a gradient.

    Attributes:
        loss: `(1 - weight) * task + weight * distill`.
        task: Cross-entropy, the mean over labelled rows.
        distill: The distillation loss, the mean over distilled rows: those labelled and finite in all teachers.
        agreement: Share of the distilled rows in which student and teacher have the same top class. Where several
            logits are exactly equal, each is a top class, here and below.
        student_accuracy: Share of the labelled rows whose label is the student's top class.
        teacher_accuracy: Share of the distilled rows whose label is that of the teacher (of the mean of several).
    """

    loss: Tensor
    task: Tensor
    distill: Tensor
    agreement: Tensor
    student_accuracy: Tensor
    teacher_accuracy: Tensor

    def detached_parts(self) -> FusedLoss:
        """The same, with a gradient for the loss alone."""
        return FusedLoss(self.loss, *(part.detach() for part in self[1:]))


@dataclass(frozen=True)
class Tally:
    """The rows of a batch that count.

    Attributes:
        labelled: Rows of the task loss, `[rows]` of bool.
        distilled: Rows of the distillation loss, `[rows]` of bool.
        items: What the sums over them are divided by, the two losses'.
        weight: Of the distillation loss.
    """

    labelled: Tensor
    distilled: Tensor
    items: tuple[Count, Count]
    weight: float

    def factors(self, dtype: torch.dtype, excess: Tensor | float | None) -> Tensor:
        """What the gradients of each row's two losses are multiplied by, `[2, rows]`; with the excess in."""
        task, distill = self.items
        rows = torch.stack([self.labelled, self.distilled]).to(dtype)  # first: whole numbers divide in float32
        factors = torch.stack([rows[0] * (1.0 - self.weight) / task, rows[1] * self.weight / distill])
        return factors if excess is None else factors * excess

    def excess(self, dtype: torch.dtype) -> Tensor | float | None:
        """A power of two near the number of rows, where a gradient in this dtype is better kept larger by it.

        In float16 the gradient of a mean over thousands of rows is mostly rounded to 0. GradScaler is there against
        that, but its factor comes in the backward only, when this gradient is long computed.
        """
        if dtype != torch.float16:
            return None
        items = self.items[0]
        return items.log2().ceil().exp2() if isinstance(items, Tensor) else 2.0 ** math.ceil(math.log2(items))

    def result(self, values: Tensor) -> FusedLoss:
        """The losses and shares of all rows, from `Rows.values`."""
        masks = torch.stack([self.labelled, self.distilled, self.distilled, self.labelled, self.distilled])
        sums = torch.where(masks, values, 0.0).sum(-1)
        shares = sums[2:] / masks[2:].sum(-1).clamp(min=1)
        task, distill = sums[0] / self.items[0], sums[1] / self.items[1]
        loss = (1.0 - self.weight) * task + self.weight * distill
        return FusedLoss(loss, task, distill, *shares.unbind())


def tally(labels: Tensor, keep: Tensor | None, weight: float, num_items: Count | None) -> Tally:
    """Count the rows.

    Args:
        labels: `[rows]` of int64; rows labelled -100 count in neither loss.
        keep: Rows that may be distilled, `[rows]` of bool; None: all.
        weight: Of the distillation loss.
        num_items: Divides both sums, instead of the numbers of rows (0 of which make a loss of 0).
    """
    labelled = labels != IGNORED
    distilled = labelled if keep is None else labelled & keep
    if num_items is not None:
        return Tally(labelled, distilled, (num_items, num_items), weight)
    return Tally(labelled, distilled, (labelled.sum().clamp(min=1), distilled.sum().clamp(min=1)), weight)
