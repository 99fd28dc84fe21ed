"""What is minimised: from the logits of a batch to one scalar. Whom to ask, and when, is decided elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from headstart.distill.heads.head import LOSSES_OF, Head, check_head, loss_of
from headstart.distill.losses import Average, Loss, LossFunction, huber, mse, standardized
from headstart.distill.losses.outputs import yes_or_no
from headstart.distill.nonfinite import finite_rows
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
        head: What a row of outputs means.
    """

    loss: Loss
    temperature: float
    standardize: bool
    average: Average
    head: Head = "classes"

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
            student: Logits, `[rows, classes]`, or whatever a row's outputs are.
            teachers: The logits of each teacher asked, `[rows, classes]`.
            shares: Their weights in the mean, summing to 1.
            keep: The rows that count, `[rows]` of bool; where each output has a value of its own, `[rows, outputs]`.
                What the teachers gave for the others has no effect.
            labels: `[rows]` of int64, or `[rows, classes]` of floats, for losses that take them.
            num_items: Divides the sum; by default the number of rows that count, or of outputs for heads of labels
                and values.

        Returns:
            A scalar; 0 where no row counts.
        """
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = self.sides(student, teachers, shares)
            if self.head != "classes" and not self.loss.each_output and num_items is not None:
                num_items = num_items / student.shape[-1]  # a count of outputs, and here rows have the values
            count = keep.sum().clamp(min=1) if num_items is None else num_items
            if self.loss.across_rows:
                # The other rows may not even be looked at. Unlike the lines below, picking them waits for the device.
                labels = labels if labels is None else labels[keep]
                return self.values(student[keep], teacher[keep], labels).sum() / count
            # Targets are replaced before the loss: a NaN times zero in its gradient would still be NaN.
            values = self.values(
                student, torch.where(keep if keep.dim() > 1 else keep.unsqueeze(-1), teacher, 0.0), labels
            )
            return torch.where(keep, values, 0.0).sum() / count

    @property
    def known(self) -> bool:
        """Whether the loss is one of ours, and no function of the user's own, which may take anything."""
        return self.loss in LOSSES_OF[self.head].values()

    @property
    def elementwise(self) -> bool:
        """Whether each output counts by itself, so that it does not matter which are a row."""
        return self.loss.each_output or (self.loss.function in (mse, huber) and not self.standardize)

    def finite(self, teacher: Tensor) -> Tensor:
        """What of a teacher's logits can be used, in the shape of `keep`."""
        return torch.isfinite(teacher) if self.loss.each_output else finite_rows(teacher)

    def counted(self, labels: Tensor) -> Tensor:
        """What labels, `[rows]` or `[rows, outputs]`, say counts, in the shape of `keep`."""
        counted = labelled(labels)
        return counted if labels.dim() == 1 or self.loss.each_output else counted.any(-1)

    def sides(self, student: Tensor, teachers: Sequence[Tensor], shares: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Student and teacher as the loss takes them: standardised if so wanted, and of several teachers the mean."""
        if self.standardize:
            student, teachers = standardized(student), [standardized(logits) for logits in teachers]
        if len(teachers) > 1 and self.head == "labels" and self.average == "probability":
            both = average_logits(
                [yes_or_no(one) for one in teachers], shares, by="probability", temperature=self.temperature
            )
            return student, both[..., 0] - both[..., 1]
        return student, average_logits(teachers, shares, by=self.average, temperature=self.temperature)

    def values(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """The loss of each row, `[rows]`, or of each output, `[rows, outputs]`, of what `sides` gave."""
        if labels is not None and self.head == "classes":  # IGNORED is no index of a class, and no probability
            labels = (labels.nan_to_num(0.0) if labels.is_floating_point() else labels).clamp(min=0)
        values = self.loss.function(student, teacher, temperature=self.temperature, labels=labels)
        if values.shape != (student.shape if self.loss.each_output else student.shape[:-1]):
            raise HeadstartError(
                f"the loss gave {tuple(values.shape)} for logits {tuple(student.shape)}; it must give a value for each "
                f"row, {tuple(student.shape[:-1])}, and not their mean, nor one for each class"
            )
        return values


def labelled(labels: Tensor) -> Tensor:
    """Where there is a label: neither -100 nor, among floats, NaN.

    Example:
        >>> labelled(torch.tensor([1.0, -100.0, torch.nan]))
        tensor([ True, False, False])
    """
    if not labels.dtype.is_signed:  # of which torch would take another number for -100
        return torch.ones_like(labels, dtype=torch.bool)
    there = labels != IGNORED
    return there & ~labels.isnan() if labels.is_floating_point() else there


def build_objective(
    loss: str | LossFunction,
    temperature: float,
    standardize: bool = False,
    average: Average | None = None,
    head: Head = "classes",
) -> Objective:
    """The objective that a user's words describe; the arguments are those of the Distiller.

    Raises:
        HeadstartError: An unknown loss, head or average, one that means nothing for the head, or a temperature that is
            not positive.
    """
    check_head(head)
    found = loss_of(head, loss)
    if not 0.0 < temperature < float("inf"):
        raise HeadstartError(f"temperature={temperature} must be a positive number")
    if average is not None and average not in get_args(Average):
        raise HeadstartError(f"average={average!r} is unknown; choose one of {', '.join(get_args(Average))}")
    if head == "values" and average == "probability":
        raise HeadstartError("average='probability' means nothing for head='values'; leave it out: values are averaged")
    if head != "classes" and standardize:
        raise HeadstartError(
            f"standardize means nothing for head={head!r}: it compares the classes of a row with each other; leave it "
            "out"
        )
    return Objective(found, temperature, standardize, average or found.average, head)
