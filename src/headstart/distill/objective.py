"""What is minimised: from the logits of a batch to one scalar. Whom to ask, and when, is decided elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from headstart.distill.losses import LOSSES, Average, Loss, LossFunction, standardized
from headstart.distill.pool.pool import average_logits
from headstart.errors import HeadstartError

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
        num_items: float | Tensor | None = None,
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
            student, teacher = self.sides(student, teachers, shares)
            count = keep.sum().clamp(min=1) if num_items is None else num_items
            if self.loss.across_rows:
                # The other rows may not even be looked at. Unlike the lines below, picking them waits for the device.
                labels = labels if labels is None else labels[keep]
                return self.values(student[keep], teacher[keep], labels).sum() / count
            # Targets are replaced before the loss: a NaN times zero in its gradient would still be NaN.
            values = self.values(student, torch.where(keep.unsqueeze(-1), teacher, 0.0), labels)
            return torch.where(keep, values, 0.0).sum() / count

    def sides(self, student: Tensor, teachers: Sequence[Tensor], shares: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Student and teacher as the loss takes them: standardised if so wanted, and of several teachers the mean."""
        if self.standardize:
            student, teachers = standardized(student), [standardized(logits) for logits in teachers]
        return student, average_logits(teachers, shares, by=self.average, temperature=self.temperature)

    def values(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """The loss of each row, `[rows]`, of what `sides` gave."""
        labels = labels if labels is None else labels.clamp(min=0)  # IGNORED is no index of a class
        return self.loss.function(student, teacher, temperature=self.temperature, labels=labels)


def build_objective(
    loss: str | LossFunction, temperature: float, standardize: bool = False, average: Average | None = None
) -> Objective:
    """The objective that a user's words describe; the arguments are those of the Distiller.

    Raises:
        HeadstartError: An unknown loss or average, or a temperature that is not positive.
    """
    if isinstance(loss, str) and loss not in LOSSES:
        raise HeadstartError(f"loss={loss!r} is unknown; choose one of {', '.join(LOSSES)}, or give a function")
    if not 0.0 < temperature < float("inf"):
        raise HeadstartError(f"temperature={temperature} must be a positive number")
    if average is not None and average not in get_args(Average):
        raise HeadstartError(f"average={average!r} is unknown; choose one of {', '.join(get_args(Average))}")
    found = LOSSES[loss] if isinstance(loss, str) else Loss(loss)
    return Objective(found, temperature, standardize, average or found.average)
