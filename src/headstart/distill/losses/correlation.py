"""Losses that look at the shape of outputs alone, and divide by their spread."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from headstart.distill.losses.logits import widen


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
    the undivided batch. Arguments and result as in `kl`.

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
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    return F.cosine_similarity(a, b, dim=dim, eps=1e-8)


def standardized(logits: Tensor) -> Tensor:
    """Logits with mean 0 and standard deviation 1 over classes: the student is to match their shape alone.

    From Sun et al., arXiv 2403.01427. A layer normalisation, whose epsilon also bounds the gradient where all logits of
    a row are equal, as a classifier initialised with zeros gives them.

    Args:
        logits: `[rows, classes]`.

    Example:
        >>> standardized(torch.tensor([[1.0, 3.0]]))
        tensor([[-1.0000,  1.0000]])
    """
    return F.layer_norm(widen(logits), logits.shape[-1:], eps=1e-5)
