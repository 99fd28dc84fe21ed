"""Losses that look at the shape of outputs alone, and divide by their spread."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.losses.logits import widen

# The smallest spread that is divided by: of logits, and of probabilities as a share of their mean. A head that was
# initialised with zeros has none at all, and its gradient would have no bound. Trained outputs are far above it.
_LEAST = 1e-2
_TINY = 1e-8  # below it squares of float32 are lost


def dist(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Tensor:
    """DIST: one minus Pearson's correlation, over the classes of a row and over the rows of a class.

    T^2 * (beta * (1 - r over classes) + gamma * mean over classes of (1 - r over rows)), of the tempered probabilities
    (Huang et al., arXiv 2205.10536). The second part is the batch's and is added to each row, so that the mean over
    rows is the paper's loss. It is the one loss here that depends on how a batch is cut: micro-batches do not add up to
    the undivided batch. A standard deviation of less than one percent of the mean counts as one percent, which bounds
    the gradient where a head gives the same for everything. Arguments and result as in `kl`.

    Example:
        >>> x = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
        >>> dist(x, x).abs().max().item() < 1e-5
        True
    """
    p = F.softmax(widen(teacher) / temperature, dim=-1)
    q = F.softmax(widen(student) / temperature, dim=-1)
    between_classes = 1.0 - _pearson(q, p, dim=-1)
    between_rows = (1.0 - _pearson(q, p, dim=0)).mean()
    return temperature**2 * (beta * between_classes + gamma * between_rows)


def _pearson(a: Tensor, b: Tensor, *, dim: int) -> Tensor:
    """Correlation of probabilities."""
    first, second = (
        _scores(side, dim, least=(_LEAST * side.detach().mean(dim, keepdim=True)).clamp(min=_TINY)) for side in (a, b)
    )
    return (first * second).mean(dim)


def _scores(values: Tensor, dim: int, *, least: Tensor) -> Tensor:
    """Values less their mean, divided by their standard deviation, or by `least` where that is smaller."""
    deviations = values - values.mean(dim, keepdim=True)
    # The maximum comes before the root, whose slope at 0 is infinite.
    return deviations / torch.maximum(deviations.square().mean(dim, keepdim=True), least.square()).sqrt()


def standardized(logits: Tensor) -> Tensor:
    """Logits with mean 0 and standard deviation 1 over classes: the student is to match their shape alone.

    From Sun et al., arXiv 2403.01427. A standard deviation below 0.01 counts as 0.01, which bounds the gradient where
    all logits of a row are equal, as a classifier initialised with zeros gives them.

    Args:
        logits: `[rows, classes]`.

    Example:
        >>> standardized(torch.tensor([[1.0, 3.0]]))
        tensor([[-1.,  1.]])
    """
    logits = widen(logits)
    return _scores(logits, -1, least=logits.new_full((), _LEAST))
