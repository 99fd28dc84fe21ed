"""Distances of the logits, or values, themselves: no softmax, no temperature."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from headstart.distill.losses.logits import widen


def mse(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Mean over classes of the squared difference of logits; no temperature.

    T^2 KL tends to half of it as T grows, for logits that are centred over classes (Hinton et al., section 2.1).
    Arguments and result as in `kl`; `temperature` and `labels` are not used.

    Example:
        >>> import torch
        >>> mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])).item()
        2.5
    """
    return (widen(student) - widen(teacher)).square().mean(-1)


def huber(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None, delta: float = 1.0
) -> Tensor:
    """Mean over classes of Huber's loss of the difference of logits: squared where it is small, else its size.

    Per class 1/2 d^2 up to abs(d) = delta, and delta (abs(d) - delta / 2) beyond (Huber, 1964), so that the gradient of
    no class exceeds delta / classes, and outliers of the teacher pull no harder. Arguments and result as in `kl`;
    `temperature` and `labels` are not used.

    Example:
        >>> import torch
        >>> huber(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])).item()
        1.0
    """
    return F.huber_loss(widen(student), widen(teacher), reduction="none", delta=delta).mean(-1)
