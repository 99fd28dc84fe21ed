"""The sums of a batch against autograd in fp64; it does not matter how a batch is cut, nor what does not count."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.stopping.batch_sums import SUMS, batch_sums, cosine

Make = Callable[..., Tensor]
LABELS = torch.tensor([0, 4, 2, 1, 3, 3])
ALL = torch.tensor(True)


def by_autograd(student: Tensor, teacher: Tensor, labels: Tensor) -> list[float]:
    """The same, from the gradients of the summed losses for the student's logits."""
    leaf = student.clone().requires_grad_()
    (task,) = torch.autograd.grad(F.cross_entropy(leaf, labels, reduction="sum"), leaf)
    kl = F.kl_div(leaf.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="sum")
    (distill,) = torch.autograd.grad(kl, leaf)
    losses = [F.cross_entropy(side, labels, reduction="sum") for side in (student, teacher)]
    sums = [*losses, (task * distill).sum(), task.square().sum(), distill.square().sum()]
    return [len(student), *(value.item() for value in sums)]


def mixtures(labels: Tensor) -> Tensor:
    one = F.one_hot(labels, 5).double()
    return 0.7 * one + 0.3 * one.roll(1, 0)


@pytest.mark.parametrize("mixed", [False, True])
def test_gradients_are_those_of_autograd(mixed: bool, logits: Make) -> None:
    student, teacher = logits(6, 5), logits(6, 5)
    labels = mixtures(LABELS) if mixed else LABELS
    found = batch_sums(student, teacher, labels, ALL)
    assert found.dtype == torch.float64 and found.shape == (SUMS,)
    assert found.tolist() == pytest.approx(by_autograd(student, teacher, labels), rel=1e-12)


def test_half_precision_is_computed_in_float32(logits: Make) -> None:
    student, teacher = (logits(6, 5).bfloat16() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = batch_sums(student, teacher, LABELS, ALL)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(by_autograd(student.double(), teacher.double(), LABELS), rel=1e-5)


def test_a_batch_may_be_cut_anywhere(logits: Make) -> None:
    student, teacher = logits(6, 5), logits(6, 5)
    parts = [batch_sums(student[cut], teacher[cut], LABELS[cut], ALL) for cut in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(parts[0] + parts[1], batch_sums(student, teacher, LABELS, ALL))


@pytest.mark.parametrize("mixed", [False, True])
def test_rows_that_do_not_count_have_no_effect(mixed: bool, logits: Make) -> None:
    student, teacher, labels = logits(6, 5), logits(6, 5), LABELS.clone()
    keep = torch.tensor([True, True, False, True, False, True])
    expected = by_autograd(student[keep], teacher[keep], mixtures(LABELS)[keep] if mixed else LABELS[keep])
    teacher[2], teacher[4, 0], labels[2] = float("nan"), float("inf"), -100
    if mixed:
        labels = mixtures(LABELS)
        labels[2] = float("nan")
    assert batch_sums(student, teacher, labels, keep).tolist() == pytest.approx(expected, rel=1e-12)
    assert batch_sums(student, teacher, labels, torch.tensor(False)).tolist() == [0.0] * SUMS


class TestManyLogits:
    """Of which a part of the rows is looked at."""

    classes = 2**13  # 2^17 logits are then 16 rows

    def test_rows_lie_evenly_among_those_that_count(self) -> None:
        student = torch.zeros(400, self.classes)
        labels = torch.arange(400)
        keep = labels % 5 == 2
        teacher = torch.zeros(400, self.classes).scatter_(-1, labels.unsqueeze(-1), labels.unsqueeze(-1) / 10.0)
        found = batch_sums(student, teacher, labels, keep)
        # Of 80 that count 16 are looked at: the third of each five.
        one_each = [batch_sums(student[[i]], teacher[[i]], labels[[i]], ALL) for i in range(12, 400, 25)]
        torch.testing.assert_close(found, torch.stack(one_each).sum(0))

    def test_none_counts(self) -> None:
        student = torch.zeros(100, self.classes)
        found = batch_sums(student, student, torch.zeros(100, dtype=torch.int64), torch.tensor(False))
        assert found.tolist() == [0.0] * SUMS

    def test_fewer_count_than_are_looked_at(self) -> None:
        student, keep = torch.zeros(100, self.classes), torch.arange(100) == 37
        labels = torch.full((100,), 3)
        student[37, 3] = 2.0
        found = batch_sums(student, student, labels, keep)
        one = batch_sums(student[[37]], student[[37]], labels[[37]], ALL)
        torch.testing.assert_close(found / found[0], one)


def test_no_direction_has_no_cosine() -> None:
    assert cosine(0.0, 1.0, 0.0) == 0.0
