"""Distillation losses as pure functions: logits in, one value per row out.

Every loss takes student and teacher logits of shape `[rows, classes]` and returns the loss of each row, shape `[rows]`,
in `promote_types(dtype, float32)` (so fp64 stays fp64, and half precision never reaches a reduction). The mean over
rows is the caller's. Factors of T^2 keep the gradient's size independent of the temperature (Hinton et al., arXiv
1503.02531, section 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.errors import HeadstartError

Average = Literal["probability", "logit"]


class LossFunction(Protocol):
    """What a distillation loss looks like; any such function can be given to the Distiller in place of a name."""

    def __call__(self, student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor | None) -> Tensor:
        """Map logits `[rows, classes]` to the loss of each row, `[rows]`, from that row alone."""
        ...


def widen(logits: Tensor) -> Tensor:
    """Logits in the dtype that losses are computed in: at least float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(widen(logits) / temperature, dim=-1)


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
    log_p = _log_probabilities(teacher, temperature)
    log_q = _log_probabilities(student, temperature)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)


def reverse_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Reverse Kullback-Leibler divergence, T^2 * sum_c p_S log(p_S / p_T): the student may omit what it cannot fit.

    It is what the paper's public code computes, whose arguments to `kl_div` are swapped. Arguments and result as in
    `kl`.

    Example:
        >>> reverse_kl(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item()
        0.0
    """
    log_p = _log_probabilities(teacher, temperature)
    log_q = _log_probabilities(student, temperature)
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
    log_p = _log_probabilities(teacher, temperature)
    log_q = _log_probabilities(student, temperature)
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log(1.0 - beta))
    to_teacher = (log_p.exp() * (log_p - log_m)).sum(-1)
    to_student = (log_q.exp() * (log_q - log_m)).sum(-1)
    return temperature**2 * (beta * to_teacher + (1.0 - beta) * to_student)


def mse(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Mean over classes of the squared difference of logits; no temperature.

    T^2 KL tends to half of it as T grows, for logits that are centred over classes (Hinton et al., section 2.1).
    Arguments and result as in `kl`; `temperature` and `labels` are not used.

    Example:
        >>> mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])).item()
        2.5
    """
    return (widen(student) - widen(teacher)).square().mean(-1)


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
    log_p = _log_probabilities(teacher, temperature)
    log_q = _log_probabilities(student, temperature)
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


@dataclass(frozen=True)
class Loss:
    """A loss with what the Distiller has to know about it.

    Attributes:
        function: The loss itself.
        average: How several teachers are averaged unless told otherwise. For kl, reverse_kl and mse it is the mean
            whose gradient one teacher drawn at random estimates without bias: of the tempered probabilities where the
            loss is linear in them (but for a constant), of the logits where its gradient is linear in those. The other
            losses have no such mean.
        across_rows: Whether a row's value depends on the other rows too.
    """

    function: LossFunction
    average: Average = "probability"
    across_rows: bool = False


LOSSES: dict[str, Loss] = {
    "kl": Loss(kl),
    "reverse_kl": Loss(reverse_kl, average="logit"),
    "jsd": Loss(jsd),
    "mse": Loss(mse, average="logit"),
    "dkd": Loss(dkd),
    "dist": Loss(dist, across_rows=True),
}
