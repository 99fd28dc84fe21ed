"""What student and teachers say to the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill.losses import widen
from headstart.distill.nonfinite import finite_rows
from headstart.distill.objective import IGNORED

Batch = tuple[Any, Any]  # inputs, labels

_NO_CLASS = -1  # a label of no class, in a row that counts


@dataclass(frozen=True)
class Answers:
    """What one model said.

    Attributes:
        shape: Of its logits for the first batch.
        bad: Rows with NaN or infinities, those labelled -100 left out.
        rows: All rows but these.
        probabilities: Whether all rows are not negative and sum to 1.
        losses: Cross-entropy of each labelled row, float64.
        choices: Its first choice for each labelled row.
        labels: The labels of these rows.
    """

    shape: tuple[int, ...]
    bad: int
    rows: int
    losses: Tensor
    choices: Tensor
    labels: Tensor
    probabilities: bool = False

    @property
    def agreement(self) -> float:
        """Fraction of labelled rows where the first choice is the label."""
        return float((self.choices == self.labels).double().mean())

    @property
    def chance(self) -> float:
        """The agreement to expect if choices and labels, as often as each occurs, were independent (as in kappa)."""
        classes = int(torch.cat([self.choices, self.labels]).max()) + 1
        shares = [torch.bincount(item, minlength=classes).double() / len(item) for item in (self.choices, self.labels)]
        return float(shares[0] @ shares[1])

    @property
    def renamed(self) -> float | None:
        """The agreement if each class were called the label it most often goes with; None with too few rows to tell."""
        classes = int(torch.cat([self.choices, self.labels]).max()) + 1
        if len(self.labels) < 10 * classes:
            return None
        table = torch.bincount(self.choices * classes + self.labels, minlength=classes**2).view(classes, classes)
        return float(table.amax(1).sum() / len(self.labels))


def answers(logits: Callable[[Any], Tensor], batches: Iterable[Batch]) -> Answers:
    """Ask a model about all batches.

    Args:
        logits: From a batch's inputs to logits `[..., classes]`.
        batches: Inputs and labels `[...]` of int64; rows labelled -100, or with no class of that index, have none. None
            where labels are no indices of classes: then no row has one, and all count.
    """
    shape, bad, total, sums_to_one = None, 0, 0, True
    losses, choices, kept = [], [], []
    for inputs, labels in batches:
        given = logits(inputs).detach()
        shape = shape or tuple(given.shape)
        rows = given.flatten(0, -2)
        finite = finite_rows(rows)
        labels = torch.full(given.shape[:-1], _NO_CLASS, device=given.device) if labels is None else labels
        counts = labels.flatten() != IGNORED
        bad, total = bad + int((~finite & counts).sum()), total + int(counts.sum())
        sums_to_one = sums_to_one and _are_probabilities(rows[finite & counts])
        keep = finite & valid(labels.flatten(), rows.shape[-1])
        log_p = widen(rows[keep]).log_softmax(-1)
        label = labels.flatten()[keep]
        losses.append(-log_p.gather(-1, label.unsqueeze(-1)).squeeze(-1).double().cpu())
        choices.append(log_p.argmax(-1).cpu())
        kept.append(label.cpu())
    return Answers(shape or (), bad, total, torch.cat(losses), torch.cat(choices), torch.cat(kept), sums_to_one)


def _are_probabilities(rows: Tensor) -> bool:
    sums = rows.double().sum(-1)
    return rows.shape[-1] > 1 and len(rows) > 0 and bool((rows >= 0).all() and ((sums - 1).abs() < 1e-3).all())


def valid(labels: Tensor, classes: int) -> Tensor:
    """Which rows have a label that is a class's index."""
    return (labels != IGNORED) & (labels >= 0) & (labels < classes)


def shared_parameters(model: nn.Module, teacher: nn.Module) -> list[str]:
    """The student's names of parameters that are the teacher's too."""
    own = {parameter.data_ptr() for parameter in teacher.parameters() if parameter.numel()}
    return [name for name, parameter in model.named_parameters() if parameter.data_ptr() in own]


def spread(first: Tensor, second: Tensor) -> float:
    """Largest difference of two forwards, over the standard deviation of the logits; rows not finite left out."""
    first, second = first.flatten(0, -2).float(), second.flatten(0, -2).float()
    both = finite_rows(first) & finite_rows(second)
    if not bool(both.any()):
        return 0.0
    return float((first - second)[both].abs().max() / first[both].std().clamp(min=1e-12))
