"""Losses with their gradients written out, computed in buffers that are used again and again.

All take chunks of logits that are shifted: less their row's largest. Nothing is normalised before the end, so that a
buffer is gone through as few times as possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from headstart.distill.losses import LossFunction, kl, mse, reverse_kl

_LOG2_E = math.log2(math.e)


class Shifted(NamedTuple):
    """Logits less their row's largest.

    Attributes:
        logits: `[rows, classes]`, at most 0.
        largest: What was subtracted, `[rows, 1]`.
    """

    logits: Tensor
    largest: Tensor


class Exponentials(NamedTuple):
    """A softmax that is not normalised.

    Attributes:
        terms: `[rows, classes]`.
        norm: Their sums, `[rows, 1]`.
    """

    terms: Tensor
    norm: Tensor


class Factors(NamedTuple):
    """What the gradients of a row's task and distillation loss are multiplied by, `[rows, 1]` each."""

    task: Tensor
    distill: Tensor


def shifted(logits: Tensor, out: Tensor) -> Shifted:
    """Shift logits, which may be of a smaller dtype, into a buffer."""
    largest = out.copy_(logits).amax(-1, keepdim=True)
    return Shifted(out.sub_(largest), largest)


def exponentials(logits: Tensor, temperature: float, out: Tensor) -> Exponentials:
    """Exponentials of shifted logits divided by the temperature; `out` may be the logits."""
    # torch.exp calls a library that is slow on some processors; exp2 is torch's own.
    terms = torch.mul(logits, _LOG2_E / temperature, out=out).exp2_()
    return Exponentials(terms, terms.sum(-1, keepdim=True))


def cross_entropy(student: Shifted, hard: Exponentials, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of each row, `[rows, 1]`, from the exponentials at T = 1; labels are `[rows, 1]`."""
    loss = hard.norm.log() - (1.0 - smoothing) * student.logits.gather(-1, labels)
    return loss - smoothing * student.logits.mean(-1, keepdim=True) if smoothing else loss


def subtract_target(gradient: Tensor, labels: Tensor, smoothing: float, factor: Tensor) -> None:
    """Complete cross-entropy's gradient, probabilities less the target, where the probabilities are in already."""
    if smoothing:
        gradient -= smoothing / gradient.shape[-1] * factor
    gradient.scatter_add_(-1, labels, (smoothing - 1.0) * factor)


def _kl(
    student: Shifted, teacher: Shifted, hard: Exponentials, temperature: float, factors: Factors, spare: Tensor
) -> tuple[Tensor, Tensor]:
    """T^2 * sum_c p (log p - log q), with the gradient T * (q - p)."""
    soft = hard if temperature == 1.0 else exponentials(student.logits, temperature, out=spare)
    difference = torch.sub(teacher.logits, student.logits, out=student.logits)
    target = exponentials(teacher.logits, temperature, out=teacher.logits)
    factor = temperature * factors.distill
    gradient = _mixed(hard, factors.task, soft, factor).addcmul_(target.terms, -factor / target.norm)
    mean = difference.mul_(target.terms).sum(-1, keepdim=True) / target.norm
    return temperature * mean + temperature**2 * (soft.norm / target.norm).log(), gradient


def _reverse_kl(
    student: Shifted, teacher: Shifted, hard: Exponentials, temperature: float, factors: Factors, spare: Tensor
) -> tuple[Tensor, Tensor]:
    """T^2 * sum_c q (log q - log p), with the gradient q * (d - sum_c q d) for the difference d of the logits."""
    soft = hard if temperature == 1.0 else exponentials(student.logits, temperature, out=spare)
    difference = student.logits.sub_(teacher.logits)
    target = exponentials(teacher.logits, temperature, out=teacher.logits)
    product = difference.mul_(soft.terms)
    mean = product.sum(-1, keepdim=True) / soft.norm
    gradient = _mixed(hard, factors.task, soft, -factors.distill * mean)
    gradient.addcmul_(product, factors.distill / soft.norm)
    return temperature * mean + temperature**2 * (target.norm / soft.norm).log(), gradient


def _mse(
    student: Shifted, teacher: Shifted, hard: Exponentials, temperature: float, factors: Factors, spare: Tensor
) -> tuple[Tensor, Tensor]:
    """The mean squared difference of the logits; no temperature."""
    difference = student.logits.sub_(teacher.logits).add_(student.largest - teacher.largest)
    gradient = hard.terms.mul_(factors.task / hard.norm)
    gradient.addcmul_(difference, factors.distill * (2.0 / difference.shape[-1]))
    return torch.mul(difference, difference, out=spare).mean(-1, keepdim=True), gradient


def _mixed(hard: Exponentials, hard_factor: Tensor, soft: Exponentials, soft_factor: Tensor) -> Tensor:
    """The weighted sum of both softmaxes, in the place of the first; they may be the same."""
    if soft is hard:
        return hard.terms.mul_((hard_factor + soft_factor) / hard.norm)
    return hard.terms.mul_(hard_factor / hard.norm).addcmul_(soft.terms, soft_factor / soft.norm)


# Each gives the distillation loss of the rows, [rows, 1], and the gradient of both losses but for `subtract_target`. It
# overwrites the logits and exponentials that it is given.
CLOSED_FORMS: dict[LossFunction, Callable[..., tuple[Tensor, Tensor]]] = {kl: _kl, reverse_kl: _reverse_kl, mse: _mse}
