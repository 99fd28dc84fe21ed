"""What is refused at the first distilled step, because looking at numbers and graphs shows it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import Distiller
from headstart.errors import HeadstartError, TeacherError

INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def distilled(
    student: nn.Module, teacher: nn.Module, inputs: Tensor = INPUTS, labels: Any = None, **options: Any
) -> Any:
    distiller = Distiller(teacher, total_steps=4, **options)
    logits = student(inputs)
    distiller(logits.sum(), logits, inputs, labels=labels)
    return distiller.last


class Chosen(nn.Module):
    """Gives the classes, and no logits."""

    def forward(self, inputs: Tensor) -> Tensor:
        return F.one_hot(inputs.argmax(-1), 4)


@pytest.mark.parametrize(
    ("end", "head", "words"),
    [(nn.Softmax(-1), "classes", "each row sums to 1"), (nn.Sigmoid(), "labels", "from 0 to 1.*torch.logit")],
)
def test_probabilities_of_either_side_are_refused(end: nn.Module, head: Any, words: str) -> None:
    sound, ended = nn.Linear(4, 5), nn.Sequential(nn.Linear(4, 5), end)
    with pytest.raises(TeacherError, match=rf"teacher 'Sequential' gives probabilities.*{words}"):
        distilled(sound, copy.deepcopy(ended), head=head)
    with pytest.raises(TeacherError, match=rf"the student gives probabilities.*{words}"):
        distilled(ended, copy.deepcopy(sound), head=head)
    assert distilled(sound, nn.Linear(4, 5), head=head) is not None


def test_a_few_sigmoids_or_a_head_of_zeros_tell_nothing() -> None:
    few = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid())
    assert distilled(nn.Linear(4, 3), few, head="labels") is not None
    zeros = nn.Linear(4, 9)
    nn.init.zeros_(zeros.weight), nn.init.zeros_(zeros.bias)
    assert distilled(nn.Linear(4, 9), zeros, head="labels") is not None


def test_classes_instead_of_logits_are_refused() -> None:
    with pytest.raises(TeacherError, match=r"'Chosen' gives torch.int64, and no logits"):
        distilled(nn.Linear(4, 4), Chosen())
    with pytest.raises(HeadstartError, match=r"student's outputs are torch.int64 .* before an argmax"):
        logits = nn.Linear(4, 4)(INPUTS)
        Distiller(nn.Linear(4, 4), total_steps=4)(logits.sum(), logits.argmax(-1), INPUTS)


@pytest.mark.parametrize("label", [-1, 4, 255])
@pytest.mark.parametrize("loss", ["kl", "dkd"])
def test_labels_that_are_no_class_are_refused(label: int, loss: str) -> None:
    labels = torch.tensor([0, 1, 2, 3, -100, 0, 1, label])
    with pytest.raises(HeadstartError, match=rf"a label is {label}, .*masked_fill\(labels == {label}, -100\)"):
        distilled(nn.Linear(4, 4), nn.Linear(4, 4), labels=labels, loss=loss)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int16])
@pytest.mark.parametrize("loss", ["kl", "dkd"])
def test_labels_may_be_of_any_integer_dtype(dtype: torch.dtype, loss: str) -> None:
    """As uint8 -100 would be 156, which is a class here."""
    student, teacher, labels = nn.Linear(4, 200), nn.Linear(4, 200), torch.tensor([156, 1, 2, 3, 156, 5, 6, 7])
    expected = distilled(student, teacher, labels=labels, loss=loss).distill_loss
    assert distilled(student, teacher, labels=labels.to(dtype), loss=loss).distill_loss == pytest.approx(expected)
    of = Distiller(teacher, total_steps=4)
    torch.testing.assert_close(
        of.loss(student(INPUTS), labels.to(dtype), INPUTS), of.loss(student(INPUTS), labels, INPUTS)
    )


def conv() -> nn.Module:
    return nn.Conv1d(3, 7, 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("length", [7, 9])
def test_a_task_loss_over_the_second_dimension_asks_for_it(smoothing: float, length: int) -> None:
    student, sounds, labels = conv(), torch.randn(2, 3, length), torch.randint(7, (2, length))
    logits = student(sounds)
    task = 2 * F.cross_entropy(logits, labels, label_smoothing=smoothing)
    with pytest.raises(HeadstartError, match=r"classes of logits \(2, 7, \d\) from dimension 1.*class_dim=1"):
        Distiller(conv(), total_steps=4)(task, logits, sounds)
    assert Distiller(conv(), total_steps=4, class_dim=1)(task, logits, sounds).isfinite()


def test_logits_that_are_turned_for_the_task_loss_have_their_classes_last() -> None:
    student, teacher, inputs = nn.Linear(4, 7), nn.Linear(4, 7), torch.randn(2, 5, 4)
    logits = student(inputs)
    task = F.cross_entropy(logits.transpose(1, 2), torch.randint(7, (2, 5)))
    assert Distiller(teacher, total_steps=4)(task, logits, inputs).isfinite()


def test_an_own_loss_gives_a_value_for_each_row() -> None:
    def mean(student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor | None) -> Tensor:
        return F.mse_loss(student, teacher)

    with pytest.raises(HeadstartError, match=r"the loss gave \(\) for logits \(8, 5\); it must give a value for each"):
        distilled(nn.Linear(4, 5), nn.Linear(4, 5), loss=mean)
