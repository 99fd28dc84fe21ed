"""Losses of outputs that are no classes: each output has a value of its own, `[rows, outputs]`.

A yes-or-no label is a choice between two classes whose logits are its own and 0: the softmax over these is the sigmoid.
So the divergences of labels are those of classes, over two.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.losses.divergences import jsd, kl, reverse_kl
from headstart.distill.losses.logits import widen


def yes_or_no(logits: Tensor) -> Tensor:
    """Logits of yes and no, `[..., 2]`, from those of yes alone, `[...]`.

    Example:
        >>> yes_or_no(torch.tensor([2.0])).softmax(-1)[..., 0] == torch.tensor([2.0]).sigmoid()
        tensor([True])
    """
    return torch.stack([logits, torch.zeros_like(logits)], dim=-1)


def binary_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Forward divergence of each label's tempered sigmoid, T^2 * KL(Bernoulli(p_T) || Bernoulli(p_S)).

    It is the binary cross-entropy with the teacher's sigmoids as targets, less their entropy.

    Args:
        student: Logits, `[rows, labels]`.
        teacher: Logits, `[rows, labels]`.
        temperature: T > 0, divides both sides' logits.
        labels: Not used.

    Returns:
        `[rows, labels]`, at least 0.

    Example:
        >>> binary_kl(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]])).tolist()
        [[0.0, 0.0]]
    """
    return _over_two(kl, student, teacher, temperature)


def binary_reverse_kl(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None
) -> Tensor:
    """`reverse_kl` of each label's sigmoid. Arguments and result as in `binary_kl`.

    Example:
        >>> binary_reverse_kl(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]])).tolist()
        [[0.0, 0.0]]
    """
    return _over_two(reverse_kl, student, teacher, temperature)


def binary_jsd(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """`jsd` of each label's sigmoid. Arguments and result as in `binary_kl`.

    Example:
        >>> round(binary_jsd(torch.tensor([[50.0]]), torch.tensor([[-50.0]])).item(), 4)  # log 2, its maximum
        0.6931
    """
    return _over_two(jsd, student, teacher, temperature)


def squared_error(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None
) -> Tensor:
    """Squared difference of each output. Arguments and result as in `binary_kl`; no temperature.

    Example:
        >>> squared_error(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])).tolist()
        [[1.0, 4.0]]
    """
    return (widen(student) - widen(teacher)).square()


def huber_error(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None, delta: float = 1.0
) -> Tensor:
    """Huber's loss of each output's difference, see `huber`. Arguments and result as in `binary_kl`; no temperature.

    Example:
        >>> huber_error(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])).tolist()
        [[0.5, 1.5]]
    """
    return F.huber_loss(widen(student), widen(teacher), reduction="none", delta=delta)


def _over_two(loss: Callable[..., Tensor], student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return loss(yes_or_no(student), yes_or_no(teacher), temperature=temperature)
