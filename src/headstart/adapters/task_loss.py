"""What a Trainer's task loss is made of, found in its first distilled steps by looking at it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from headstart.adapters.label_shift import is_shifted, labels_by_row
from headstart.adapters.loss_scale import Scale, scale_by_gradient, scales_by_value, totals
from headstart.distill.objective import IGNORED

_LOOKS = 4  # micro-batches; one may hold no labels, or as many as all the others together


class Seen(NamedTuple):
    """A micro-batch's task loss, and what it may be made of.

    Attributes:
        loss: As the Trainer has it, a scalar.
        logits: The student's, `[..., classes]`.
        labels: As the model takes them.
        num_items: The labels of the whole optimiser step, as the Trainer counts them; None where it does not.
        inner: What the loss was made of: the logits, or where it was made without them the states before.
        by_row: Whether the labels are known to be in their rows already.
    """

    loss: Tensor
    logits: Tensor
    labels: Tensor
    num_items: float | Tensor | None
    inner: Tensor
    by_row: bool = False


class TaskLoss:
    """Finds out which row a label belongs to, and by what the loss was divided; once, and remembers.

    Its value tells, where it is a cross-entropy; else its gradient, where that may be taken twice.

    Args:
        shifted: Whether the Trainer takes labels for those of the next position; for where nothing can be told.
        scale: What the Trainer takes the loss to be.
        divided: What the user says of `Scale.divided`, if anything.
        factors: Which the loss may have been multiplied by.
        twice: Whether a gradient may be taken of it, and then another one.
    """

    def __init__(
        self, *, shifted: bool, scale: Scale, divided: bool | None, factors: Sequence[float], twice: bool
    ) -> None:
        self._shifted, self._scale = shifted, scale
        self._divided, self._factors, self._twice = divided, factors, twice
        self._shift_settled, self._scale_settled = False, divided is not None and len(factors) == 1
        self._looks = 0

    def read(self, seen: Seen) -> tuple[Tensor, Scale]:
        """The label of each row, and the scale."""
        if (self._shift_open(seen) or self._scale_open(seen)) and bool((seen.labels != IGNORED).any()):
            self._looks += 1
            self._settle(seen, untold=not self._look(seen))
        return labels_by_row(seen.labels, shifted=self._in_force(seen)), self._scale

    def _in_force(self, seen: Seen) -> bool:
        return self._shifted and _in_a_row(seen)

    def _shift_open(self, seen: Seen) -> bool:
        return not self._shift_settled and _in_a_row(seen)

    def _scale_open(self, seen: Seen) -> bool:
        return not self._scale_settled and seen.num_items is not None

    def _look(self, seen: Seen) -> bool:
        """Find what can be found; returns whether any scale explains the loss, though it may not be the only one."""
        loss, items = float(seen.loss.detach()), float(seen.num_items or 0.0)
        tolerance = max(1e-5, 4 * torch.finfo(seen.loss.dtype).eps)
        found = {
            (shifted, scale)
            for shifted in ((False, True) if self._shift_open(seen) else (self._in_force(seen),))
            for total in totals(seen.logits, labels_by_row(seen.labels, shifted=shifted))
            for scale in scales_by_value(loss, total, items, self._factors, tolerance=tolerance)
            if self._divided in (None, scale.divided)
        }
        shifts, scales = {shifted for shifted, _ in found}, {scale for _, scale in found}
        if self._shift_open(seen) and len(shifts) == 1:
            self._shifted, self._shift_settled = shifts.pop(), True
        if self._scale_open(seen) and len(scales) == 1:
            self._scale, self._scale_settled = scales.pop(), True
        if self._shift_open(seen) or (self._scale_open(seen) and not scales):
            self._look_at_gradient(seen, items)
        return bool(scales) or not self._scale_open(seen)

    def _look_at_gradient(self, seen: Seen, items: float) -> None:
        gradient = _gradient(seen.loss, seen.inner) if self._twice else None
        if gradient is None:
            return
        if self._shift_open(seen) and gradient.shape[:-1] == seen.labels.shape:
            told = is_shifted(gradient.abs().amax(-1) > 0, seen.labels)
            if told is not None:
                self._shifted, self._shift_settled = told, True
        if self._scale_open(seen) and seen.inner is seen.logits and seen.labels.shape == seen.logits.shape[:-1]:
            labels = labels_by_row(seen.labels, shifted=self._in_force(seen))
            found = scale_by_gradient(gradient, seen.logits, labels, items, self._factors)
            if found is not None and self._divided in (None, found.divided):
                self._scale, self._scale_settled = found, True

    def _settle(self, seen: Seen, *, untold: bool) -> None:
        if self._shift_open(seen):
            self._shift_settled = True
            warnings.warn(
                "which position a label belongs to, its own or the one before (a causal shift), does not show in the "
                f"task loss; {'the one before' if self._shifted else 'its own'} is distilled. If that is wrong, have "
                "the collator give `shift_labels`, one label for each row of the logits",
                stacklevel=2,
            )
        if self._scale_open(seen) and untold and self._matters(seen):
            self._scale_settled = True
            warnings.warn(
                "whether the task loss is divided by `num_items_in_batch` does not show in it; it is taken for "
                "granted, as the Trainer does. If it is the mean of each micro-batch, the distillation loss weighs too "
                "little under gradient accumulation. Say which it is: `loss_is_scaled_for_ga = True`, or False, in "
                "your Trainer's class",
                stacklevel=2,
            )
        self._scale_settled |= self._looks >= _LOOKS  # whichever it is, it has made no difference yet

    def _matters(self, seen: Seen) -> bool:
        """Whether the optimiser step has more labels than the micro-batches that are computed at the same time."""
        present = int((seen.labels != IGNORED).sum()) * max(self._factors)
        return not 0.7 < float(seen.num_items or 0.0) / present < 1.4


def _in_a_row(seen: Seen) -> bool:
    """Whether the labels are those of positions one after another, and may be those of the next one."""
    one_each = not seen.labels.is_floating_point() and seen.labels.shape == seen.logits.shape[:-1]
    return one_each and seen.labels.dim() > 1 and not seen.by_row


def _gradient(loss: Tensor, of: Tensor) -> Tensor | None:
    """Of a loss in what it was made of, with its graph kept; None where it has none there."""
    if not loss.requires_grad or not of.requires_grad:
        return None
    try:
        return torch.autograd.grad(loss, of, retain_graph=True, allow_unused=True)[0]
    except RuntimeError:  # parts that are recomputed by torch.utils.checkpoint refuse to be asked for this one
        return None
