"""The Distiller in a training loop: what it adds to the task loss."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import LOSSES, Distiller, Teacher, TeacherPool, kl
from headstart.errors import HeadstartError, TeacherError
from tests.distill.batch import CLASSES, FEATURES, INPUTS, LABELS, call

Make = Callable[..., Tensor]
Counting = Callable[..., Any]
Give = Callable[[object], nn.Module]


class TestResult:
    @pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
    def test_is_the_weighted_sum(self, weight: float, student: nn.Module, counting: Counting) -> None:
        teacher = counting()
        distiller = Distiller(teacher, total_steps=10, temperature=2.0, weight=weight)
        task, loss = call(distiller, student)
        distill = kl(student(INPUTS), teacher(INPUTS), temperature=2.0).mean()
        torch.testing.assert_close(loss, (1 - weight) * task + weight * distill)

    def test_follows_the_ramps(self, student: nn.Module, counting: Counting) -> None:
        distiller = Distiller(counting(), total_steps=10, stop=1.0, ramp_up=0.4, ramp_down=0.2, weight=0.8)
        weights = []
        for _ in range(10):
            call(distiller, student)
            assert distiller.last is not None
            weights.append(distiller.last.weight)
            distiller.step()
        assert weights == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.8, 0.8, 0.8, 0.8, 0.6, 0.2])

    def test_averages_several_teachers(self, student: nn.Module, counting: Counting) -> None:
        teachers = [counting(), counting()]
        pool = TeacherPool(teachers, draw="all", weights=[1, 3])
        _, loss = call(Distiller(pool, total_steps=1, stop=1.0, loss="mse", weight=1.0), student)
        mean = 0.25 * teachers[0](INPUTS) + 0.75 * teachers[1](INPUTS)
        torch.testing.assert_close(loss, F.mse_loss(student(INPUTS), mean))
        _, loss = call(Distiller(pool, total_steps=1, stop=1.0, temperature=1.0, weight=1.0), student)
        mixed = 0.25 * teachers[0](INPUTS).softmax(-1) + 0.75 * teachers[1](INPUTS).softmax(-1)
        torch.testing.assert_close(loss, F.kl_div(student(INPUTS).log_softmax(-1), mixed, reduction="batchmean"))

    def test_averages_as_told(self, student: nn.Module, counting: Counting) -> None:
        teachers = [counting(), counting()]
        pool = TeacherPool(teachers, draw="all")
        _, loss = call(Distiller(pool, total_steps=1, stop=1.0, weight=1.0, average="logit"), student)
        mean = 0.5 * (teachers[0](INPUTS) + teachers[1](INPUTS))
        torch.testing.assert_close(loss, kl(student(INPUTS), mean, temperature=4.0).mean())

    def test_is_a_mean_over_tokens_not_batches(self, logits: Make, given: Give) -> None:
        student, teacher = logits(2, 3, CLASSES).requires_grad_(), logits(2, 3, CLASSES)
        labels = LABELS[:6].view(2, 3).clone()
        labels[0, 1] = -100
        distiller = Distiller(given(teacher), total_steps=1, stop=1.0, temperature=1.0, weight=1.0)
        loss = distiller(student.sum(), student, INPUTS, labels=labels)
        rows = kl(student.flatten(0, 1), teacher.flatten(0, 1))
        torch.testing.assert_close(loss, rows[[0, 2, 3, 4, 5]].mean())
        assert loss.dtype == torch.float64

    def test_leaves_labels_and_inputs_alone(self, student: nn.Module, counting: Counting) -> None:
        labels, inputs = torch.where(LABELS == 2, -100, LABELS), {"inputs": INPUTS.clone()}
        before = labels.clone()
        distiller = Distiller(counting(), total_steps=1, stop=1.0, loss="dkd")
        distiller.loss(student(INPUTS), labels, inputs)
        assert torch.equal(labels, before)
        assert list(inputs) == ["inputs"]
        assert torch.equal(inputs["inputs"], INPUTS)

    def test_moves_no_random_numbers(self, student: nn.Module, counting: Counting) -> None:
        distiller = Distiller([nn.Sequential(counting(), nn.Dropout(0.5)) for _ in range(3)], total_steps=10)
        before = torch.get_rng_state()
        call(distiller, student)
        assert torch.equal(torch.get_rng_state(), before)

    def test_under_autocast(self, student: nn.Module, counting: Counting) -> None:
        """The forwards run in bf16, the losses in fp32, and the gradient arrives."""
        teacher = counting()
        distiller = Distiller(teacher, total_steps=1, stop=1.0, weight=1.0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, loss = call(distiller, student)
            outputs = [student(INPUTS), teacher(INPUTS)]
        assert (loss.dtype, outputs[0].dtype) == (torch.float32, torch.bfloat16)
        exact = kl(outputs[0].double(), outputs[1].double(), temperature=4.0).mean()
        torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
        torch.autograd.backward(loss)
        assert all(parameter.grad is not None for parameter in student.parameters())
        assert all(parameter.grad is None for parameter in teacher.parameters())

    @pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: {"inputs": x}])
    def test_inputs_of_any_kind(self, wrap: Callable[[Tensor], Any], student: nn.Module, counting: Counting) -> None:
        teacher = counting()
        logits = student(INPUTS)
        loss = Distiller(teacher, total_steps=2, weight=1.0)(logits.sum(), logits, wrap(INPUTS))
        torch.testing.assert_close(loss, kl(logits, teacher(INPUTS), temperature=4.0).mean())

    def test_outputs_with_logits(self, student: nn.Module, given: Give) -> None:
        logits, target = student(INPUTS), torch.randn(8, CLASSES)
        distiller = Distiller(given(SimpleNamespace(logits=target)), total_steps=2, weight=1.0)
        torch.testing.assert_close(distiller(logits.sum(), logits, INPUTS), kl(logits, target, temperature=4.0).mean())

    def test_lets_a_student_learn(self, student: nn.Module, counting: Counting) -> None:
        teacher = counting()
        distiller = Distiller(teacher, total_steps=300, stop=1.0, weight=1.0)
        parameters = list(student.parameters())
        for _ in range(300):
            gradients = torch.autograd.grad(call(distiller, student)[1], parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.data -= 0.5 * gradient
            distiller.step()
        torch.testing.assert_close(student(INPUTS).softmax(-1), teacher(INPUTS).softmax(-1), rtol=0, atol=1e-2)


class TestTogether:
    """The second entry, with the task loss in it."""

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_is_cross_entropy_and_thecall(self, smoothing: float, student: nn.Module, counting: Counting) -> None:
        distiller = Distiller(counting(), total_steps=10)
        labels = torch.where(LABELS == 2, -100, LABELS)
        logits = student(INPUTS)
        task = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        expected = distiller(task, logits, INPUTS, labels=labels)
        loss = distiller.loss(logits, labels, INPUTS, label_smoothing=smoothing)
        torch.testing.assert_close(loss, expected)
        distiller.current_step = 9
        torch.testing.assert_close(distiller.loss(logits, labels, INPUTS, label_smoothing=smoothing), task)

    @pytest.mark.parametrize("sizes", [[3, 5], [1, 1, 6]], ids=str)
    @pytest.mark.parametrize("name", [name for name in LOSSES if name != "dist"])
    def test_micro_batches_add_up(self, name: str, sizes: list[int], counting: Counting) -> None:
        """Value and gradient of the parameters, with unequal parts and labels of -100; the teacher is one for all."""
        student = nn.Linear(FEATURES, CLASSES)
        teachers = [counting() for _ in range(3)]
        labels = torch.where(LABELS == 2, -100, LABELS)
        distiller = Distiller(teachers, total_steps=10, loss=name)
        whole = distiller.loss(student(INPUTS), labels, INPUTS)
        expected = torch.autograd.grad(whole, list(student.parameters()))
        assert [teacher.calls for teacher in teachers].count(0) == 2

        total, items = torch.zeros(()), (labels != -100).sum()
        for x, y in zip(torch.split(INPUTS, sizes), torch.split(labels, sizes), strict=True):
            loss = distiller.loss(student(x), y, x, num_items=items)
            torch.autograd.backward(loss)
            total += loss.detach()
        torch.testing.assert_close(total, whole.detach())
        torch.testing.assert_close(tuple(parameter.grad for parameter in student.parameters()), expected)
        assert sorted(teacher.calls for teacher in teachers) == [0, 0, 1 + len(sizes)]


class TestMessages:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"total_steps": 0}, "total_steps=0 must be at least 1: the optimiser steps"),
            (
                {"weight": 1.5},
                r"weight=1.5 is outside \[0, 1\]; the loss is \(1 - weight\) \* task \+ weight \* distill",
            ),
            ({"weight": float("nan")}, "weight=nan is outside"),
            ({"temperature": 0.0}, "temperature=0.0 must be a positive number"),
            ({"loss": "hinton"}, "loss='hinton' is unknown; choose one of kl, "),
            ({"average": "vote"}, "average='vote' is unknown; choose one of probability, logit"),
            ({"stop": 40}, r"window: stop=40 is outside \[0, 1\]"),
            ({"start": 0.9}, "window: start=0.9 is after stop=0.5"),
        ],
        ids=str,
    )
    def test_of_arguments(self, options: dict[str, Any], message: str, counting: Counting) -> None:
        with pytest.raises(HeadstartError, match=message):
            Distiller(counting(), **{"total_steps": 10, **options})

    @pytest.mark.parametrize("teachers", [[], ()])
    def test_of_no_teachers(self, teachers: Any) -> None:
        with pytest.raises(TeacherError, match="the pool of teachers is empty"):
            Distiller(teachers, total_steps=10)

    def test_of_another_number_of_classes(self, student: nn.Module, counting: Counting) -> None:
        distiller = Distiller(Teacher(counting(classes=7), name="old"), total_steps=10)
        with pytest.raises(TeacherError, match=r"teacher 'old' gives logits of shape \(8, 7\), the student \(8, 5\)"):
            call(distiller, student)

    def test_of_missing_labels(self, student: nn.Module, counting: Counting) -> None:
        with pytest.raises(HeadstartError, match="dkd needs the labels"):
            call(Distiller(counting(), total_steps=10, loss="dkd"), student)

    @pytest.mark.parametrize("labels", [LABELS[:3], LABELS.view(2, 4)], ids=["too few", "of another shape"])
    def test_of_labels_that_do_not_fit(self, labels: Tensor, student: nn.Module, counting: Counting) -> None:
        logits = student(INPUTS)
        with pytest.raises(
            HeadstartError, match=r"labels of shape .* do not fit logits of shape \(8, 5\); give one class"
        ):
            Distiller(counting(), total_steps=10)(logits.sum(), logits, INPUTS, labels=labels)
