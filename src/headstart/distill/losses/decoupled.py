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
        labels: Class of each row, `[rows]` of int64, or the share of each class in a row that is a mixture (mixup,
            CutMix, label smoothing), `[rows, classes]`: the loss is then the mean over classes, with these shares, of
            the loss for that class as the label. Required.
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
    if labels.dim() == 2:
        target, others = _of_each_class(log_p, log_q)
        return temperature**2 * (labels.to(log_p.dtype) * (alpha * target + beta * others)).sum(-1)
    target, others = _of_one_class(log_p, log_q, labels.unsqueeze(-1))
    return temperature**2 * (alpha * target + beta * others)


def _of_one_class(log_p: Tensor, log_q: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD, `[rows]` each, for one class a row, `[rows, 1]`."""
    p_label, q_label = log_p.gather(-1, index).squeeze(-1), log_q.gather(-1, index).squeeze(-1)
    log_p_other, log_q_other = (x.scatter(-1, index, -torch.inf) for x in (log_p, log_q))
    # log(1 - p) as a log-sum-exp over the other classes stays finite where p rounds to 1.
    p_rest, q_rest = log_p_other.logsumexp(-1), log_q_other.logsumexp(-1)
    target = p_label.exp() * (p_label - q_label) + p_rest.exp() * (p_rest - q_rest)
    # The label's own term has probability 0 and a finite logarithm, so that its gradient is 0 and not 0 times infinity.
    log_ratio = (log_p - p_rest.unsqueeze(-1)) - (log_q - q_rest.unsqueeze(-1))
    others = ((log_p_other - p_rest.unsqueeze(-1)).exp() * log_ratio).sum(-1)
    return target, others


def _of_each_class(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD, `[rows, classes]` each, for every class in turn as the label.

    Without a class, the sum over the others is that over all less its own term; but for the most probable class, which
    may leave nothing but rounding, it is taken over the others themselves.
    """
    top = log_p.argmax(-1, keepdim=True)
    log_ratio = log_p - log_q
    p_rest, q_rest = _log_of_rest(log_p), _log_of_rest(log_q)
    target = log_p.exp() * log_ratio + p_rest.exp() * (p_rest - q_rest)
    terms = log_p.exp() * log_ratio
    # Where the class is the top one, its rest may be 0: the value is replaced below, and has to be finite for that.
    share = p_rest.scatter(-1, top, 0.0).exp()
    others = (terms.sum(-1, keepdim=True) - terms) / share - (p_rest - q_rest)
    return target, others.scatter(-1, top, _of_one_class(log_p, log_q, top)[1].unsqueeze(-1))


def _log_of_rest(log_p: Tensor) -> Tensor:
    """log(1 - p) of each class, `[rows, classes]`, finite and with a finite slope also where p rounds to 1."""
    top = log_p.argmax(-1, keepdim=True)
    of_top = log_p.scatter(-1, top, -torch.inf).logsumexp(-1, keepdim=True)
    # Any other class has a probability of one half at most.
    return torch.log1p(-log_p.scatter(-1, top, -1.0).exp()).scatter(-1, top, of_top)
