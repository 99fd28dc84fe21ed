"""A task loss is read once, in the first micro-batches that tell."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.adapters.loss_scale import Scale
from headstart.adapters.task_loss import Seen, TaskLoss

LABELS = torch.tensor([[-100, 1, 2, 0], [-100, -100, 2, 1]])
SHIFTED = torch.tensor([[1, 2, 0, -100], [-100, 2, 1, -100]])
MEAN, STEP = Scale(False, 1.0), Scale(True, 1.0)


def logits() -> Tensor:
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()


def task(*, shifted: bool = False, divided: bool | None = None, twice: bool = True) -> TaskLoss:
    return TaskLoss(shifted=shifted, scale=STEP, divided=divided, factors=[1.0], twice=twice)


def seen(loss: Tensor, outputs: Tensor, num_items: int | None = 20) -> Seen:
    return Seen(loss, outputs, LABELS, num_items, outputs)


def entropy(outputs: Tensor, labels: Tensor, **how: object) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("expected", [False, True])
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_of_a_cross_entropy_the_value_tells(shifted: bool, divided: bool, twice: bool, expected: bool) -> None:
    outputs, labels = logits(), SHIFTED if shifted else LABELS
    loss = entropy(outputs, labels, reduction="sum") / (20 if divided else 5)
    rows, scale = task(shifted=expected, twice=twice).read(seen(loss, outputs))
    assert rows.tolist() == labels.tolist()
    assert scale == (STEP if divided else MEAN)


@pytest.mark.parametrize("shifted", [False, True])
def test_else_its_gradient_which_can_still_be_taken_afterwards(shifted: bool) -> None:
    outputs, labels = logits(), SHIFTED if shifted else LABELS
    loss = entropy(outputs, labels, label_smoothing=0.1)
    rows, scale = task(shifted=not shifted).read(seen(loss, outputs))
    assert (rows.tolist(), scale) == (labels.tolist(), MEAN)
    loss.backward()  # type: ignore[no-untyped-call]


def test_it_is_looked_at_once() -> None:
    reader, outputs = task(), logits()
    reader.read(seen(entropy(outputs, SHIFTED), outputs))
    rows, scale = reader.read(seen(torch.tensor(float("nan")), outputs))
    assert (rows.tolist(), scale) == (SHIFTED.tolist(), MEAN)


def test_a_batch_without_labels_is_waited_through() -> None:
    reader, outputs, nothing = task(), logits(), torch.full_like(LABELS, -100)
    for _ in range(9):
        reader.read(Seen(outputs.sum() * 0, outputs, nothing, 20, outputs))
    assert reader.read(seen(entropy(outputs, SHIFTED), outputs))[0].tolist() == SHIFTED.tolist()


def test_labels_that_are_known_to_be_in_their_rows_stay_there() -> None:
    outputs = logits()
    known = Seen(entropy(outputs, LABELS), outputs, LABELS, None, outputs, by_row=True)
    assert task(shifted=True).read(known)[0].tolist() == LABELS.tolist()


@pytest.mark.parametrize("shifted", [False, True])
def test_a_loss_that_does_not_tell_is_spoken_of_once(shifted: bool) -> None:
    reader, outputs = task(shifted=shifted), logits()
    with pytest.warns(UserWarning, match=r"causal shift.*shift_labels") as found:
        rows, scale = reader.read(seen(outputs.square().mean(), outputs))
    assert (rows.tolist(), scale) == ((SHIFTED if shifted else LABELS).tolist(), STEP)
    assert any("num_items_in_batch" in str(warning.message) for warning in found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader.read(seen(outputs.square().mean(), outputs))


def test_what_the_user_says_is_not_asked_for() -> None:
    reader, outputs = task(divided=False), logits()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader.read(seen(entropy(outputs, LABELS, reduction="sum") / 20, outputs))
