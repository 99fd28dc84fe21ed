"""What is minimised: from the logits of a batch to one scalar. Which teachers gave them, and when, is decided elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headstart.distill.losses import Average, Loss, standardized
from headstart.distill.pool import average_logits

IGNORED = -100  # label of a row without a target, as in torch.nn.functional.cross_entropy


@dataclass(frozen=True)
class Objective:
    """The mean of a loss over the rows that count.

    Attributes:
        loss: The loss.
        temperature: Its T.
        standardize: Standardise all logits first, each teacher's on its own.
        average: How several teachers are averaged.
    """

    loss: Loss
    temperature: float
    standardize: bool
    average: Average

    def __call__(
        self,
        student: Tensor,
        teachers: Sequence[Tensor],
        shares: Sequence[float],
        *,
        keep: Tensor,
        labels: Tensor | None = None,
        num_items: int | Tensor | None = None,
    ) -> Tensor:
        """The objective of a batch, computed in at least float32 whatever autocast says.

        Args:
            student: Logits, `[rows, classes]`.
            teachers: The logits of each teacher asked, `[rows, classes]`.
            shares: Their weights in the mean, summing to 1.
            keep: The rows that count, `[rows]` of bool. What the teachers gave for the others has no effect.
            labels: `[rows]` of int64, for losses that take them.
            num_items: Divides the sum over rows; by default the number of rows that count.

        Returns:
            A scalar; 0 where no row counts.
        """
        with torch.autocast(student.device.type, enabled=False):
            if self.standardize:
                student, teachers = standardized(student), [standardized(logits) for logits in teachers]
            teacher = average_logits(teachers, shares, by=self.average, temperature=self.temperature)
            count = keep.sum().clamp(min=1) if num_items is None else num_items
            if self.loss.across_rows:
                # The other rows may not even be looked at. Unlike the lines below, picking them waits for the device.
                labels = labels if labels is None else labels[keep]
                return self._values(student[keep], teacher[keep], labels).sum() / count
            # Targets are replaced before the loss: a NaN times zero in its gradient would still be NaN.
            values = self._values(student, torch.where(keep.unsqueeze(-1), teacher, 0.0), labels)
            return torch.where(keep, values, 0.0).sum() / count

    def _values(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        labels = labels if labels is None else labels.clamp(min=0)  # IGNORED is no index of a class
        return self.loss.function(student, teacher, temperature=self.temperature, labels=labels)
