"""What a model said to labelled rows, and how well: losses, hits, and what the labels' frequencies alone would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.heads.head import Head
from headstart.distill.nonfinite import finite_rows
from headstart.distill.stopping.batch_sums import as_probabilities

_PRIORS = (1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e4)  # observations of each class beforehand; the likeliest is taken


@dataclass(frozen=True)
class Evidence:
    """What a model said to the rows of one head that count.

    Attributes:
        head: What a row means.
        logits: `[rows, outputs]`; of classes all rows count.
        labels: `[rows]` of int64, or probabilities `[rows, classes]`; for labels and values `[rows, outputs]`.
        counted: For labels and values, which outputs count, `[rows, outputs]` of bool.

    Example:
        >>> evidence = Evidence("classes", torch.zeros(3, 2), torch.tensor([0, 1, 1]))
        >>> evidence.losses().mean().item(), evidence.count
        (0.6931471805599453, 3)
    """

    head: Head
    logits: Tensor
    labels: Tensor
    counted: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.bool))

    @property
    def count(self) -> int:
        """How many losses there are: rows of classes, else outputs."""
        return len(self.logits) if self.head == "classes" else int(self.counted.sum())

    def losses(self, temperature: float = 1.0) -> Tensor:
        """The task loss of each that counts, `[count]` of float64, of the logits divided by a temperature."""
        logits = self.logits.double() / temperature
        if self.head == "classes":
            return F.cross_entropy(logits, self._target(), reduction="none")
        logits, labels = logits[self.counted], self.labels[self.counted].double()
        if self.head == "labels":
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return (logits - labels).square()

    def brier(self, temperature: float = 1.0) -> Tensor | None:
        """The Brier score of each row of classes, `[count]` of float64: `|p - label|^2`. None of labels and values."""
        if self.head != "classes":
            return None
        p = torch.softmax(self.logits.double() / temperature, -1)
        return (p - as_probabilities(self.labels, p)).square().sum(-1)

    def choices(self) -> Tensor | None:
        """What the model says is right, for each that counts; None for values, which are right or wrong by degrees."""
        if self.head == "classes":
            return self.logits.argmax(-1)
        return (self.logits[self.counted] > 0).long() if self.head == "labels" else None

    def right(self) -> Tensor | None:
        """What the labels say is right, in the same form."""
        if self.head == "classes":
            return self.labels if self.labels.dim() == 1 else self.labels.argmax(-1)
        return (self.labels[self.counted] > 0.5).long() if self.head == "labels" else None

    def by_chance(self) -> Tensor:
        """The task loss that the labels' own frequencies give (of values their mean), each predicted from the others.

        `[count]` of float64. Leaving each out, and smoothing by a prior, keeps rare classes from looking easy.
        """
        if self.head == "classes":
            return min((self._by_frequency(prior) for prior in _PRIORS), key=lambda losses: float(losses.mean()))
        labels, counted = self.labels.double(), self.counted.expand(self.labels.shape)
        known = torch.where(counted, labels, 0.0)
        others = (counted.sum(0) - 1).clamp(min=1)
        rest = known.sum(0) - known
        if self.head == "values":
            return (labels - rest / others).square()[counted]
        found = []
        for prior in _PRIORS:
            p = (rest + prior) / (counted.sum(0) - 1 + 2.0 * prior)
            found.append(-(labels * p.log() + (1.0 - labels) * (1.0 - p).log())[counted])
        return min(found, key=lambda losses: float(losses.mean()))

    def finite(self) -> tuple[Evidence, int]:
        """What of it is finite, and how much of what counts is not."""
        if self.head == "classes":
            keep = finite_rows(self.logits)
            return Evidence(self.head, self.logits[keep], self.labels[keep]), int((~keep).sum())
        finite = torch.isfinite(self.logits)
        bad = int((self.counted & ~finite).sum())
        logits = torch.where(finite, self.logits, 0.0)
        return Evidence(self.head, logits, self.labels, self.counted & finite), bad

    def renamed(self) -> float | None:
        """The accuracy if each class were called the label it most often goes with.

        None with too few rows to tell, or where two classes would be called alike: then it is no other order.
        """
        if self.head != "classes" or self.labels.dim() > 1:
            return None
        classes = self.logits.shape[-1]
        if len(self.labels) < 10 * classes:
            return None
        table = torch.bincount(self.logits.argmax(-1) * classes + self.labels, minlength=classes**2)
        most, called = table.view(classes, classes).max(1)
        return float(most.sum() / len(self.labels)) if len(set(called.tolist())) == classes else None

    def _target(self) -> Tensor:
        return self.labels if self.labels.dim() == 1 else self.labels.double()

    def _by_frequency(self, prior: float) -> Tensor:
        rows, classes = self.logits.shape
        if self.labels.dim() == 1:
            others = torch.bincount(self.labels, minlength=classes)[self.labels].double() - 1.0
            return -((others + prior) / (rows - 1 + prior * classes)).log()
        shares = self.labels.double()
        p = (shares.sum(0) - shares + prior) / (rows - 1 + prior * classes)
        return -(shares * p.log()).sum(-1)


def joined(parts: Sequence[Evidence]) -> Evidence:
    """The evidence of several batches as one."""
    first = parts[0]
    logits, labels = torch.cat([part.logits for part in parts]), torch.cat([part.labels for part in parts])
    if first.head == "classes":
        return Evidence(first.head, logits, labels)
    return Evidence(first.head, logits, labels, torch.cat([part.counted for part in parts]))


def mean_of_heads(values: Sequence[Tensor]) -> float:
    """The mean over heads of their means."""
    return sum(float(value.double().mean()) for value in values) / len(values)
