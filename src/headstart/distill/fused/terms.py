"""The specification of a fused pass: which losses of each row, and the rows themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headstart.distill.fused.closed_forms import CLOSED_FORMS
from headstart.distill.objective import IGNORED, Objective


@dataclass(frozen=True)
class Terms:
    """What is computed of each row.

    Attributes:
        objective: The distillation loss, one that looks at a row at a time; None: the task loss alone.
        shares: The teachers' weights in their mean, summing to 1.
        label_smoothing: As in `torch.nn.functional.cross_entropy`.
    """

    objective: Objective | None
    shares: tuple[float, ...]
    label_smoothing: float

    @property
    def closed_form(self) -> bool:
        """Whether the gradient is written out, so that autograd is not asked."""
        objective = self.objective
        return objective is None or (objective.loss.function in CLOSED_FORMS and not objective.standardize)


@dataclass(frozen=True)
class Rows:
    """Rows of a batch.

    Attributes:
        student: Logits, `[rows, classes]`.
        teachers: Logits of each teacher, `[rows, classes]`; as many as `Terms.shares`.
        labels: `[rows]` of int64; rows labelled -100 count in neither loss.
        keep: Rows that are finite in all teachers, `[rows]` of bool; None: all are.
    """

    student: Tensor
    teachers: Sequence[Tensor]
    labels: Tensor
    keep: Tensor | None

    def part(self, index: slice | Tensor) -> Rows:
        """Some of them."""
        keep = None if self.keep is None else self.keep[index]
        return Rows(self.student[index], [teacher[index] for teacher in self.teachers], self.labels[index], keep)

    @property
    def classes(self) -> Tensor:
        """The labels, with some class instead of -100, which is the index of none."""
        return self.labels.masked_fill(self.labels == IGNORED, 0)

    def finite(self, teacher: Tensor) -> Tensor:
        """The teachers' mean with zeros in the rows not kept: a NaN times a factor of zero would still be NaN."""
        return teacher if self.keep is None else torch.where(self.keep.unsqueeze(-1), teacher, 0.0)
