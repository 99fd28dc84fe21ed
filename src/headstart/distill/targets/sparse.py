"""Sparse targets: what stands in for a teacher's logits where those of many classes would be too much to keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from headstart.distill.losses import LossFunction, jsd, kl, reverse_kl, widen


@dataclass(frozen=True)
class TopK:
    """The k most probable classes of each row, and all the others as one class more.

    Attributes:
        indices: The classes, `[rows, k]` of int64.
        logits: Theirs, and last the others' as one: T times the log-sum-exp of their logits over T. `[rows, k + 1]`, up
            to a constant for each row.
        temperature: T, at which the others were put together.
        classes: Of the teacher.
    """

    indices: Tensor
    logits: Tensor
    temperature: float
    classes: int
    losses: ClassVar[tuple[LossFunction, ...]] = (kl, reverse_kl, jsd)

    def part(self, rows: slice | Tensor) -> TopK:
        """Some of the rows."""
        return replace(self, indices=self.indices[rows], logits=self.logits[rows])

    def values(self, student: Tensor, loss: LossFunction) -> Tensor:
        """The loss of each row, over k + 1 classes: the student's others are put together as well.

        Never more than the loss over all classes, and 0 where the student gives the k classes their probabilities: how
        the rest divides among the others is left to the student.

        Args:
            student: Logits, `[rows, classes]`.
            loss: One of `losses`.

        Returns:
            `[rows]`, at least float32.
        """
        coarse = others_as_one(student, self.indices, self.temperature)
        return loss(coarse, self.logits, temperature=self.temperature, labels=None)


@dataclass(frozen=True)
class Sampled:
    """Classes drawn from the teacher's tempered probabilities (Sparse Logit Sampling, arXiv 2503.16870).

    Attributes:
        indices: The draws, `[rows, draws]` of int64; a class drawn several times stands there several times.
        entropy: Of the teacher's tempered probabilities, `[rows]`, in nats. It has no effect on the gradient.
        temperature: T, at which they were drawn.
        classes: Of the teacher.
    """

    indices: Tensor
    entropy: Tensor
    temperature: float
    classes: int
    losses: ClassVar[tuple[LossFunction, ...]] = (kl,)

    def part(self, rows: slice | Tensor) -> Sampled:
        """Some of the rows."""
        return replace(self, indices=self.indices[rows], entropy=self.entropy[rows])

    def values(self, student: Tensor, loss: LossFunction) -> Tensor:
        """An estimate of forward KL of each row, T^2 * (-H(p_T) - mean over draws of log p_S).

        It is unbiased, in value and in gradient: each class is drawn as often, on average, as it is probable.
        Arguments and result as in `TopK.values`.
        """
        logits = widen(student) / self.temperature
        log_q = logits.gather(-1, self.indices) - logits.logsumexp(-1, keepdim=True)
        return self.temperature**2 * (-self.entropy.to(log_q.dtype) - log_q.mean(-1))


Sparse = TopK | Sampled


def others_as_one(logits: Tensor, indices: Tensor, temperature: float) -> Tensor:
    """Logits of some classes, and of all the others as one whose tempered probability is the sum of theirs.

    Args:
        logits: `[rows, classes]`.
        indices: The classes to keep, `[rows, k]` of int64, k less than all.
        temperature: T.

    Returns:
        `[rows, k + 1]`, at least float32.

    Example:
        >>> logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
        >>> others_as_one(logits, torch.tensor([[3]]), temperature=1.0).exp()
        tensor([[0.4000, 0.6000]])
    """
    logits = widen(logits)
    others = logits.scatter(-1, indices, -torch.inf) / temperature
    rest = temperature * others.logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(-1, indices), rest], dim=-1)


def top_k_target(logits: Tensor, k: int, temperature: float) -> TopK:
    """The sparse form of a teacher's logits `[rows, classes]` that keeps the k largest.

    Example:
        >>> top_k_target(torch.tensor([[0.0, 2.0, 1.0, 0.0]]), k=2, temperature=1.0).indices
        tensor([[1, 2]])
    """
    logits = widen(logits)
    indices = logits.topk(k, dim=-1).indices
    return TopK(indices, others_as_one(logits, indices, temperature), temperature, logits.shape[-1])


def sampled_target(logits: Tensor, draws: int, temperature: float, uniforms: Tensor) -> Sampled:
    """Draw from a teacher's tempered probabilities at equal steps along their sum (systematic sampling).

    The i-th draw of a row is the class in which (i + u) / draws falls when the probabilities are laid end to end. A
    class is drawn `draws * p` times on average, as in independent draws, but always to within one time: the estimates
    have the same mean and vary less.

    Args:
        logits: `[rows, classes]`.
        draws: How many.
        temperature: T.
        uniforms: u of each row, in [0, 1), `[rows]` of float64.

    Example:
        >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
        >>> sampled_target(logits, 4, 1.0, torch.tensor([0.5], dtype=torch.float64)).indices
        tensor([[0, 0, 1, 2]])
    """
    # The sum over many classes is a place where float32 would shift the odds of the last ones.
    p = (logits.double() / temperature).softmax(-1)
    ends = p.cumsum(-1)
    ends = ends / ends[:, -1:]
    points = (torch.arange(draws, device=logits.device) + uniforms.unsqueeze(-1)) / draws
    points = points.clamp(max=1.0 - 2.0**-53)  # what rounds to 1 would lie past the last class
    indices = torch.searchsorted(ends, points, right=True)
    return Sampled(indices, torch.special.entr(p).sum(-1), temperature, logits.shape[-1])
