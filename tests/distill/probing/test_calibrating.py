"""The calibrating temperature against scipy's search, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize, special
from torch import Tensor

from headstart.distill.probing.calibrating import LIMIT, calibrating_temperature
from headstart.distill.probing.evidence import Evidence

ROWS, CLASSES = 400, 7


def classes(scale: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels drawn from a softmax, and logits that are so many times as large."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(ROWS, CLASSES, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)
    return scale * logits, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_classes_as_scipy_finds_it(scale: float) -> None:
    logits, labels = classes(scale)

    def likelihood(log_t: float) -> float:
        z = logits.double().numpy() / math.exp(log_t)
        return float(np.mean(special.logsumexp(z, axis=1) - z[np.arange(ROWS), labels.numpy()]))

    best = optimize.minimize_scalar(likelihood, bounds=(-2.3, 2.3), method="bounded", options={"xatol": 1e-10})
    found = calibrating_temperature([Evidence("classes", logits, labels)])
    assert math.log(found) == pytest.approx(best.x, abs=1e-6)
    assert found == pytest.approx(scale, rel=0.15)  # and so it is the scale, up to the sample's noise


def test_several_labels_and_what_does_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(ROWS, 4, generator=generator)
    labels = (torch.rand(ROWS, 4, generator=generator) < logits.sigmoid()).float()
    counted = torch.rand(ROWS, 4, generator=generator) < 0.7
    z, y = (2 * logits)[counted].double().numpy(), labels[counted].double().numpy()

    def likelihood(log_t: float) -> float:
        return float(np.mean(np.logaddexp(0.0, z / math.exp(log_t)) - y * z / math.exp(log_t)))

    best = optimize.minimize_scalar(likelihood, bounds=(-2.3, 2.3), method="bounded", options={"xatol": 1e-10})
    given = torch.where(counted, labels, -100.0)
    found = calibrating_temperature([Evidence("labels", 2 * logits, given, counted)])
    assert math.log(found) == pytest.approx(best.x, abs=1e-6)


def test_mixtures_of_classes_count_by_their_shares() -> None:
    logits, labels = classes(2.0)
    twice = Evidence("classes", logits.repeat(2, 1), torch.cat([labels, labels.roll(1)]))
    shares = (torch.eye(CLASSES)[labels] + torch.eye(CLASSES)[labels.roll(1)]) / 2
    mixed = Evidence("classes", logits, shares)
    assert calibrating_temperature([mixed]) == pytest.approx(calibrating_temperature([twice]), rel=1e-8)


def test_several_heads_share_one() -> None:
    first, second = (Evidence("classes", *classes(3.0, seed)) for seed in (0, 1))
    both = Evidence("classes", torch.cat([first.logits, second.logits]), torch.cat([first.labels, second.labels]))
    assert calibrating_temperature([first, second]) == pytest.approx(calibrating_temperature([both]), rel=1e-8)


def test_the_bounds() -> None:
    _, labels = classes(1.0)
    always_right = Evidence("classes", 5 * torch.eye(CLASSES)[labels], labels)
    assert calibrating_temperature([always_right]) == pytest.approx(1 / LIMIT)
    always_wrong = Evidence("classes", -5 * torch.eye(CLASSES)[labels], labels)
    assert calibrating_temperature([always_wrong]) == LIMIT


def test_large_logits_do_not_overflow() -> None:
    logits, labels = classes(1.0)
    shifted = Evidence("classes", logits.double() + 1e6, labels)
    assert calibrating_temperature([shifted]) == pytest.approx(
        calibrating_temperature([Evidence("classes", logits, labels)]), rel=1e-6
    )
