"""Decoupled knowledge distillation: the label apart from the other classes."""

from __future__ import annotations

import torch
from torch import Tensor

from headstart.distill.losses.logits import log_probabilities
from headstart.errors import HeadstartError


def dkd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 4.0,
    labels: Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Decoupled knowledge distillation, T^2 * (alpha TCKD + beta NCKD) (Zhao et al., arXiv 2203.08679, equation 7).

    TCKD is the divergence of the two-way distribution {label, not the label}; NCKD that among the other classes. With
    beta = 1 - p_T(label) and alpha = 1 it is `kl` again.

    Args:
        student: Logits, `[rows, classes]`.
        teacher: Logits, `[rows, classes]`.
        temperature: T > 0; the paper takes 4 on small images.
        labels: Class of each row, `[rows]` of int64. Required.
        alpha: Weight of TCKD.
        beta: Weight of NCKD; 8 is the paper's choice for small images.

    Raises:
        HeadstartError: `labels` is missing.

    Example:
        >>> dkd(torch.eye(3), torch.eye(3), labels=torch.tensor([0, 1, 2])).abs().max().item() < 1e-5
        True
    """
    if labels is None:
        raise HeadstartError("dkd needs the labels: call distiller(loss, logits, inputs, labels=labels)")
    log_p = log_probabilities(teacher, temperature)
    log_q = log_probabilities(student, temperature)
    index = labels.unsqueeze(-1)
    p_label, q_label = log_p.gather(-1, index).squeeze(-1), log_q.gather(-1, index).squeeze(-1)
    log_p_other, log_q_other = (x.scatter(-1, index, -torch.inf) for x in (log_p, log_q))
    # log(1 - p) as a log-sum-exp over the other classes stays finite where p rounds to 1.
    p_rest, q_rest = log_p_other.logsumexp(-1), log_q_other.logsumexp(-1)
    target = p_label.exp() * (p_label - q_label) + p_rest.exp() * (p_rest - q_rest)
    # The label's own term has probability 0 and a finite logarithm, so that its gradient is 0 and not 0 times infinity.
    log_ratio = (log_p - p_rest.unsqueeze(-1)) - (log_q - q_rest.unsqueeze(-1))
    others = ((log_p_other - p_rest.unsqueeze(-1)).exp() * log_ratio).sum(-1)
    return temperature**2 * (alpha * target + beta * others)
