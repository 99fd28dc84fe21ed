"""Divergences of tempered probabilities: forward, reverse, and between both."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headstart.distill.losses.logits import log_probabilities
from headstart.errors import HeadstartError


def kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Forward Kullback-Leibler divergence, T^2 * sum_c p_T log(p_T / p_S): the student has to cover the teacher.

    Args:
        student: Logits, `[rows, classes]`.
        teacher: Logits, `[rows, classes]`.
        temperature: T > 0, divides both sides' logits.
        labels: Not used.

    Returns:
        `[rows]`, at least 0.

    Example:
        >>> kl(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]])).item()
        0.0
    """
    log_p = log_probabilities(teacher, temperature)
    log_q = log_probabilities(student, temperature)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)


def reverse_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Reverse Kullback-Leibler divergence, T^2 * sum_c p_S log(p_S / p_T): the student may omit what it cannot fit.

    It is what the paper's public code computes, whose arguments to `kl_div` are swapped. Arguments and result as in
    `kl`.

    Example:
        >>> reverse_kl(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item()
        0.0
    """
    log_p = log_probabilities(teacher, temperature)
    log_q = log_probabilities(student, temperature)
    return temperature**2 * (log_q.exp() * (log_q - log_p)).sum(-1)


def jsd(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None, beta: float = 0.5
) -> Tensor:
    """Generalised Jensen-Shannon divergence, T^2 * (beta KL(p_T || m) + (1 - beta) KL(p_S || m)).

    Here m = beta p_T + (1 - beta) p_S (Agarwal et al., arXiv 2306.13649, equation 1). `beta` lies strictly between 0
    and 1; other arguments and result as in `kl`.

    Raises:
        HeadstartError: `beta` is not strictly between 0 and 1 (the limits there are 0; use `kl` or `reverse_kl`).

    Example:
        >>> round(jsd(torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 50.0]])).item(), 4)  # log 2, its maximum
        0.6931
    """
    if not 0.0 < beta < 1.0:
        raise HeadstartError(f"jsd: beta={beta} must lie strictly between 0 and 1; for the ends use kl or reverse_kl")
    log_p = log_probabilities(teacher, temperature)
    log_q = log_probabilities(student, temperature)
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log(1.0 - beta))
    to_teacher = (log_p.exp() * (log_p - log_m)).sum(-1)
    to_student = (log_q.exp() * (log_q - log_m)).sum(-1)
    return temperature**2 * (beta * to_teacher + (1.0 - beta) * to_student)
