"""Losses of labels and values against torch's own distributions and losses, in fp64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, kl_divergence
from torch.nn import functional as F

from headstart.distill.heads.head import LOSSES_OF

Make = Callable[..., Tensor]
ROWS, LABELS = 6, 5


def _bernoulli(logits: Tensor, temperature: float) -> Bernoulli:
    return Bernoulli(logits=logits / temperature)


def _mixture(first: Bernoulli, second: Bernoulli) -> Bernoulli:
    return Bernoulli(probs=0.5 * (first.probs + second.probs))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergences_are_those_of_bernoullis(temperature: float, logits: Make) -> None:
    student, teacher = logits(ROWS, LABELS), logits(ROWS, LABELS)
    p, q = _bernoulli(teacher, temperature), _bernoulli(student, temperature)
    m = _mixture(p, q)
    expected = {
        "kl": kl_divergence(p, q),
        "reverse_kl": kl_divergence(q, p),
        "jsd": 0.5 * (kl_divergence(p, m) + kl_divergence(q, m)),
    }
    for name, values in expected.items():
        found = LOSSES_OF["labels"][name].function(student, teacher, temperature=temperature, labels=None)
        torch.testing.assert_close(found, temperature**2 * values)


def test_kl_is_the_binary_cross_entropy_less_the_entropy(logits: Make) -> None:
    student, teacher = logits(ROWS, LABELS).requires_grad_(), logits(ROWS, LABELS)
    target = (teacher / 3).sigmoid()
    both = [F.binary_cross_entropy_with_logits(side / 3, target, reduction="none") for side in (student, teacher)]
    found = LOSSES_OF["labels"]["kl"].function(student, teacher, temperature=3.0, labels=None)
    torch.testing.assert_close(found, 9 * (both[0] - both[1]))
    gradients = [torch.autograd.grad(of.sum(), student)[0] for of in (found, 9 * both[0])]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("head", ["labels", "values"])
def test_distances_are_torchs(head: str, logits: Make) -> None:
    student, teacher = logits(ROWS, LABELS), logits(ROWS, LABELS)
    losses = LOSSES_OF[head]  # type: ignore[index]
    for name, expected in {
        "mse": F.mse_loss(student, teacher, reduction="none"),
        "huber": F.huber_loss(student, teacher, reduction="none"),
    }.items():
        torch.testing.assert_close(losses[name].function(student, teacher, temperature=7.0, labels=None), expected)


@pytest.mark.parametrize("name", list(LOSSES_OF["labels"]))
def test_gradient_is_the_numerical_one(name: str, logits: Make) -> None:
    student, teacher = logits(ROWS, LABELS).requires_grad_(), logits(ROWS, LABELS)
    loss = LOSSES_OF["labels"][name].function
    assert torch.autograd.gradcheck(lambda s, t: loss(s, t, temperature=2.0, labels=None), (student, teacher))
