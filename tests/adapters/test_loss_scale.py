"""What a loss was divided by, from its value and from its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.adapters.loss_scale import Scale, scale_by_gradient, scales_by_value, totals

LABELS = torch.tensor([0, 2, -100, 1, 1])
ITEMS = 16  # of the whole step; this micro-batch has 4
MEAN, STEP = Scale(False, 1.0), Scale(True, 1.0)


def logits() -> Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()


def mean(outputs: Tensor) -> Tensor:
    return F.cross_entropy(outputs, LABELS)


def of_step(outputs: Tensor) -> Tensor:
    return F.cross_entropy(outputs, LABELS, reduction="sum") / ITEMS


@pytest.mark.parametrize(("loss", "scale"), [(mean, MEAN), (of_step, STEP)])
def test_value_and_gradient_agree(loss: object, scale: Scale) -> None:
    assert callable(loss)
    outputs = logits()
    value = loss(outputs)
    (total,) = totals(outputs, LABELS)
    assert total.count == 4
    assert scales_by_value(value.item(), total, ITEMS, [1.0], tolerance=1e-5) == [scale]
    gradient = torch.autograd.grad(value, outputs)[0]
    assert scale_by_gradient(gradient, outputs, LABELS, ITEMS, [1.0]) == scale


def test_the_factor_against_the_mean_over_processes() -> None:
    outputs = logits()
    (total,) = totals(outputs, LABELS)
    tripled = 3 * mean(outputs)
    assert scales_by_value(tripled.item(), total, ITEMS, [1.0, 3.0], tolerance=1e-5) == [Scale(False, 3.0)]
    gradient = torch.autograd.grad(tripled, outputs)[0]
    assert scale_by_gradient(gradient, outputs, LABELS, ITEMS, [1.0, 3.0]) == Scale(False, 3.0)


def test_as_many_labels_as_the_step_has_are_either() -> None:
    outputs = logits()
    (total,) = totals(outputs, LABELS)
    assert scales_by_value(mean(outputs).item(), total, 4, [1.0], tolerance=1e-5) == [MEAN, STEP]
    assert scale_by_gradient(torch.autograd.grad(mean(outputs), outputs)[0], outputs, LABELS, 4, [1.0]) is None


def test_a_gradient_sees_through_smoothing_and_terms_beside_the_logits() -> None:
    outputs = logits()
    smooth = F.cross_entropy(outputs, LABELS, label_smoothing=0.1, reduction="sum") / ITEMS + 5.0
    (total,) = totals(outputs, LABELS)
    assert scales_by_value(smooth.item(), total, ITEMS, [1.0], tolerance=1e-5) == []
    assert scale_by_gradient(torch.autograd.grad(smooth, outputs)[0], outputs, LABELS, ITEMS, [1.0]) == STEP


def test_another_loss_is_not_taken_for_one() -> None:
    outputs = logits()
    gradient = torch.autograd.grad(outputs.square().mean(), outputs)[0]
    assert scale_by_gradient(gradient, outputs, LABELS, ITEMS, [1.0]) is None


def test_values_and_yes_or_no_labels() -> None:
    outputs, labels = logits().detach(), torch.rand(5, 3, generator=torch.Generator().manual_seed(1)).round()
    entropies, squares = totals(outputs, labels)
    torch.testing.assert_close(entropies.sum / 15, F.binary_cross_entropy_with_logits(outputs, labels).item())
    torch.testing.assert_close(squares.sum / squares.count, F.mse_loss(outputs, labels).item())


def test_maps_are_compared_at_the_size_of_their_labels() -> None:
    generator = torch.Generator().manual_seed(2)
    maps, labels = torch.randn(2, 3, 4, 4, generator=generator), torch.randint(3, (2, 8, 8), generator=generator)
    labels[0, 0] = 255
    large = F.interpolate(maps, (8, 8), mode="bilinear", align_corners=False)
    (total,) = totals(maps, labels)
    torch.testing.assert_close(total.sum / total.count, F.cross_entropy(large, labels, ignore_index=255).item())


def test_labels_that_fit_in_no_way() -> None:
    assert totals(logits(), torch.zeros(7, dtype=torch.int64)) == totals(logits(), torch.zeros(4)) == []
