"""The mean over the rows that count, however a batch is cut and in whatever precision it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstart.distill import LOSSES, average_logits, kl, standardized
from headstart.distill.objective import build_objective
from headstart.errors import HeadstartError

Make = Callable[..., Tensor]
ROWS, CLASSES = 9, 5
LABELS = torch.tensor([0, -100, 2, 3, -100, 2, 1, -100, 4])
KEEP = LABELS != -100
NAMES = sorted(LOSSES)
ROW_BY_ROW = [name for name in NAMES if not LOSSES[name].across_rows]


def _value_and_gradient(name: str, student: Tensor, teachers: list[Tensor], **options: Any) -> tuple[Tensor, Tensor]:
    leaf = student.detach().clone().requires_grad_()
    shares = [1 / len(teachers)] * len(teachers)
    value = build_objective(name, 2.0, False, None)(leaf, teachers, shares, **options)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


@pytest.mark.parametrize("poison", [0.0, float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_rows_left_out_are_as_if_they_were_not_there(name: str, count: int, poison: float, logits: Make) -> None:
    student, teachers = logits(ROWS, CLASSES), [logits(ROWS, CLASSES) for _ in range(count)]
    expected, gradient = _value_and_gradient(
        name, student[KEEP], [teacher[KEEP] for teacher in teachers], keep=KEEP[KEEP], labels=LABELS[KEEP]
    )
    teachers[-1][~KEEP] = poison
    value, whole = _value_and_gradient(name, student, teachers, keep=KEEP, labels=LABELS)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(whole[KEEP], gradient)
    assert torch.equal(whole[~KEEP], torch.zeros_like(whole[~KEEP]))


@pytest.mark.parametrize("name", NAMES)
def test_no_row_left(name: str, logits: Make) -> None:
    teacher = torch.full((ROWS, CLASSES), torch.nan, dtype=torch.float64)
    nothing = torch.zeros(ROWS, dtype=torch.bool)
    value, gradient = _value_and_gradient(name, logits(ROWS, CLASSES), [teacher], keep=nothing, labels=LABELS)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


CUTS = [[ROWS], [4, 5], [1, 6, 2], [1] * ROWS]


def _in_parts(name: str, student: Tensor, teacher: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """The sum over micro-batches, each divided by the rows of the whole."""
    parts = zip(*(torch.split(side, sizes) for side in (student, teacher, KEEP, LABELS)), strict=True)
    results = [
        _value_and_gradient(name, s, [t], keep=keep, labels=labels, num_items=int(KEEP.sum()))
        for s, t, keep, labels in parts
    ]
    return torch.stack([value for value, _ in results]).sum(), torch.cat([gradient for _, gradient in results])


@pytest.mark.parametrize("sizes", CUTS, ids=str)
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_micro_batches_add_up_to_the_batch(name: str, sizes: list[int], logits: Make) -> None:
    """Cuts of unequal size, with unequal numbers of rows that count, and some with none."""
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    value, gradient = _value_and_gradient(name, student, [teacher], keep=KEEP, labels=LABELS)
    summed, joined = _in_parts(name, student, teacher, sizes)
    torch.testing.assert_close(summed, value)
    torch.testing.assert_close(joined, gradient)


def test_dist_is_the_loss_that_does_not_add_up(logits: Make) -> None:
    assert [name for name in NAMES if LOSSES[name].across_rows] == ["dist"]
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    value, _ = _value_and_gradient("dist", student, [teacher], keep=KEEP, labels=LABELS)
    torch.testing.assert_close(_in_parts("dist", student, teacher, [ROWS])[0], value)
    assert (_in_parts("dist", student, teacher, [4, 5])[0] - value).abs() > 0.01


@pytest.mark.parametrize("num_items", [6, torch.tensor(6)], ids=["number", "tensor"])
def test_num_items_divides_the_sum(num_items: int | Tensor, logits: Make) -> None:
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    value, _ = _value_and_gradient("kl", student, [teacher], keep=KEEP, num_items=num_items)
    torch.testing.assert_close(value, kl(student[KEEP], teacher[KEEP], temperature=2.0).sum() / 6)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_is_off_inside(name: str, logits: Make) -> None:
    student, teacher = logits(ROWS, CLASSES).bfloat16(), logits(ROWS, CLASSES).bfloat16()
    exact, _ = _value_and_gradient(name, student.double(), [teacher.double()], keep=KEEP, labels=LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = _value_and_gradient(name, student, [teacher], keep=KEEP, labels=LABELS)
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["kl", "mse"])
def test_each_teacher_is_standardized_on_its_own(name: str, logits: Make) -> None:
    """A teacher with logits ten times as large must not outshout the others."""
    student, teachers = logits(ROWS, CLASSES), [logits(ROWS, CLASSES), 10 * logits(ROWS, CLASSES)]
    objective = build_objective(name, 2.0, True, None)
    mean = average_logits([standardized(t) for t in teachers], [0.5, 0.5], by=objective.average, temperature=2.0)
    expected = LOSSES[name].function(standardized(student), mean, temperature=2.0, labels=None).mean()
    keep = torch.ones(ROWS, dtype=torch.bool)
    torch.testing.assert_close(objective(student, teachers, [0.5, 0.5], keep=keep), expected)


def test_own_loss(logits: Make) -> None:
    def tempered_l1(student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor | None) -> Tensor:
        return temperature * (student - teacher).abs().sum(-1)

    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    objective = build_objective(tempered_l1, 3.0, False, None)
    assert objective.average == "probability"
    value = objective(student, [teacher], [1.0], keep=KEEP)
    torch.testing.assert_close(value, 3 * (student - teacher)[KEEP].abs().sum(-1).mean())


def test_own_loss_is_spared_autocast_too(logits: Make) -> None:
    """A matrix product in it would be in half precision."""

    def whitened(student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor | None) -> Tensor:
        difference = student - teacher
        return (difference @ torch.eye(CLASSES, device=difference.device)).square().sum(-1)

    student, teacher = logits(ROWS, CLASSES).float(), logits(ROWS, CLASSES).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = build_objective(whitened, 1.0, False, None)(student, [teacher], [1.0], keep=KEEP)
    torch.testing.assert_close(value, (student - teacher)[KEEP].square().sum(-1).mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("kld", 1.0, False, None),
            "loss='kld' is unknown; choose one of kl, reverse_kl, jsd, mse, huber, dkd, dist, or give a",
        ),
        (("kl", 0.0, False, None), "temperature=0.0 must be a positive number"),
        (("kl", -1.0, False, None), "temperature=-1.0 must be a positive number"),
        (("kl", float("inf"), False, None), "temperature=inf must be a positive number"),
        (("kl", float("nan"), False, None), "temperature=nan must be a positive number"),
        (("kl", 1.0, False, "logits"), "average='logits' is unknown; choose one of probability, logit"),
    ],
)
def test_messages(arguments: Any, message: str) -> None:
    with pytest.raises(HeadstartError, match=message):
        build_objective(*arguments)
