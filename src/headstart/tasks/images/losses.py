"""Task losses of image classification beyond the plain cross-entropy: labels that are mixtures, and binary ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.tasks.task import Batch


def soft_labels(batch: Batch, classes: int, *, smoothing: float = 0.0) -> Tensor:
    """The probabilities that a batch's rows should have.

    Args:
        batch: With one label for each row, or two, where its inputs are mixtures.
        classes: How many there are.
        smoothing: Share of each row that is spread evenly over all classes.

    Returns:
        float32 `[rows, classes]`; each row adds up to 1.

    Example:
        >>> batch = Batch(torch.zeros(1, 1), torch.tensor([1]), torch.tensor([0]), epoch=0)
        >>> soft_labels(batch, 4, smoothing=0.2).tolist()
        [[0.05..., 0.85..., 0.05..., 0.05...]]
    """
    target = F.one_hot(batch.labels, classes).float()
    if batch.mixed is not None:
        target = torch.lerp(F.one_hot(batch.mixed.labels, classes).float(), target, batch.mixed.share)
    return target * (1.0 - smoothing) + smoothing / classes


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Each class a yes or no of its own: the sum over classes, as a mean over rows.

    Args:
        logits: `[rows, classes]`.
        target: Probabilities, `[rows, classes]`.

    Returns:
        A scalar, in at least float32.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum") / len(target)


@torch.no_grad()
def begin_unlikely(model: nn.Module, classes: int) -> None:
    """Give a fresh model's head a bias by which every class has a probability of about 1 in `classes`.

    With a bias of 0 each would be as likely as not, and the first steps of a binary loss would only unlearn that.
    """
    heads = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == classes]
    if heads and heads[-1].bias is not None:
        heads[-1].bias.fill_(-math.log(classes))
