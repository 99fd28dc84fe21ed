"""Trainings whose truth is known: a softmax regression learns from labels and a teacher, many at once.

Inputs are normal, labels are drawn from known probabilities, softmax(inputs @ truth / spread). A teacher is the truth
with errors; so is what a student can become. At each step the exact expectations over labels are at hand, on inputs of
their own: whether the student has passed its teacher, and where the cosine of both gradients is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headstart.distill.stopping.batch_sums import SUMS
from headstart.distill.stopping.judge import BLOCKS

FEATURES, CLASSES, HELD_OUT = 16, 8, 300


@dataclass(frozen=True)
class Setting:
    """A kind of training.

    Attributes:
        error: Of the teacher's weights, in those of the truth.
        spread: How noisy labels are: the truth's logits are divided by it.
        lr: The highest learning rate of SGD.
        batch: Rows of a step.
        weight: Of the distillation loss.
        pool: Teachers of which one is drawn at each step; their errors differ.
        schedule: `constant`, or `one-cycle` with a quarter of warm-up.
        seen: Features that the student sees, of 16; the teachers see all, and stay ahead.
    """

    error: float
    spread: float = 1.0
    lr: float = 0.3
    batch: int = 64
    weight: float = 0.9
    pool: int = 1
    schedule: str = "one-cycle"
    seen: int = 16


@dataclass(frozen=True)
class Streams:
    """What many trainings of a setting have measured, and what was true.

    Attributes:
        measured: The sums of each block, `[trainings, blocks, 6]`.
        behind: By how much the student's expected task loss is above its teachers', `[trainings, blocks]`.
        cosine: Of the expectations, `[trainings, blocks]`.
    """

    measured: Tensor
    behind: Tensor
    cosine: Tensor


def simulate(setting: Setting, trainings: int, seed: int, *, steps: int = 2 * BLOCKS) -> Streams:
    """Train.

    Args:
        setting: How.
        trainings: How many.
        seed: Of all that is random.
        steps: Of each training; a multiple of the number of blocks.
    """
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randn(trainings, FEATURES, CLASSES, generator=draw) / setting.spread
    errors = torch.randn(setting.pool, trainings, FEATURES, CLASSES, generator=draw) / setting.spread
    sizes = torch.linspace(0.5, 1.5, setting.pool) if setting.pool > 1 else torch.ones(1)
    teachers = truth + setting.error * sizes.view(-1, 1, 1, 1) * errors
    held_out = torch.randn(trainings, HELD_OUT, FEATURES, generator=draw)
    student = torch.zeros_like(truth)
    length = steps // BLOCKS
    measured, behind, cosines = torch.zeros(trainings, BLOCKS, SUMS), [], []
    for step in range(steps):
        if step % length == 0:
            ahead, where = _expected(held_out, truth, teachers, student)
            behind.append(ahead)
            cosines.append(where)
        inputs = torch.randn(trainings, setting.batch, FEATURES, generator=draw)
        labels = _drawn((inputs @ truth).softmax(-1), draw)
        teacher = teachers[int(torch.randint(setting.pool, (), generator=draw))]
        log_s, log_t = (inputs @ student).log_softmax(-1), (inputs @ teacher).log_softmax(-1)
        measured[:, step // length] += _sums(log_s, log_t, labels)
        task, distill = log_s.exp() - labels, log_s.exp() - log_t.exp()
        slope = (1.0 - setting.weight) * task + setting.weight * distill
        inputs[..., setting.seen :] = 0.0  # so that its weights there stay 0
        student -= _rate(setting, step / steps) * inputs.mT @ slope / setting.batch
    return Streams(measured, torch.stack(behind, -1), torch.stack(cosines, -1))


def _rate(setting: Setting, done: float) -> float:
    if setting.schedule == "constant":
        return setting.lr
    return setting.lr * min(done / 0.25, (1.0 - done) / 0.75)


def _drawn(probabilities: Tensor, draw: torch.Generator) -> Tensor:
    """One label a row, as a row of one 1."""
    index = torch.multinomial(probabilities.flatten(0, -2), 1, generator=draw)
    return torch.zeros_like(probabilities.flatten(0, -2)).scatter_(-1, index, 1.0).view_as(probabilities)


def _sums(log_s: Tensor, log_t: Tensor, labels: Tensor) -> Tensor:
    """The sums of `batch_sums`, of each training."""
    task, distill = log_s.exp() - labels, log_s.exp() - log_t.exp()
    rows = torch.full_like(log_s[:, 0, 0], log_s.shape[1])
    products = (-labels * log_s, -labels * log_t, task * distill, task.square(), distill.square())
    return torch.stack([rows, *(product.sum((-1, -2)) for product in products)], -1)


def _expected(inputs: Tensor, truth: Tensor, teachers: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the student is behind, and the cosine, over labels and teachers."""
    labels, log_s = (inputs @ truth).softmax(-1), (inputs @ student).log_softmax(-1)
    noise = (labels - labels.square()).sum((-1, -2))  # a drawn label's squared distance from its expectation
    sums = torch.zeros(len(inputs), SUMS)
    for teacher in teachers:
        sums += _sums(log_s, (inputs @ teacher).log_softmax(-1), labels) / len(teachers)
    rows, own, its, dot, task, distill = sums.unbind(-1)
    return (own - its) / rows, dot / ((task + noise) * distill).sqrt().clamp(min=1e-12)
