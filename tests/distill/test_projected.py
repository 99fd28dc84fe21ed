"""Students and teachers that give hidden states and a head: the same losses and gradients, without logits in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import Distiller, Projection, Teacher, TeacherPool
from headstart.distill.fused import linear, rows
from headstart.distill.projection import as_logits
from headstart.distill.targets.source import Keys, Target, TargetSource, Use
from headstart.distill.targets.sparse import sampled_target, top_k_target
from headstart.errors import TeacherError

Make = Callable[..., Tensor]
ROWS, CLASSES, FEATURES = 10, 7, 4
INPUTS = torch.randn(5, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # two rows a sample
LABELS = torch.tensor([0, 1, -100, 3, 4, 5, 6, 0, -100, 2])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows at a time, and of these one."""
    monkeypatch.setattr(rows, "_elements", lambda _: 7)
    monkeypatch.setattr(linear, "_CHUNK", 3 * CLASSES)


class Projecting(nn.Module):
    """Two rows for each sample, as states and a head."""

    def __init__(self, logits: Make, width: int = 3, *, whole: bool = False, classes: int = CLASSES) -> None:
        super().__init__()
        self.body = nn.Parameter(logits(FEATURES, 2 * width))
        self.head, self.bias = nn.Parameter(logits(classes, width)), nn.Parameter(logits(classes))
        self.whole = whole

    def forward(self, inputs: Tensor) -> Any:
        hidden = (inputs @ self.body).view(-1, self.head.shape[1])
        given = Projection(hidden, self.head, self.bias)
        return as_logits(given) if self.whole else given


class Stored(TargetSource):
    """Gives the same target whatever it is asked."""

    def __init__(self, target: Target, *, sparse: bool) -> None:
        self.name, self.target, self.sparse = "stored", target, sparse

    def targets(self, inputs: Any, keys: Keys | None) -> Target:
        return self.target

    def to(self, device: torch.device) -> None: ...

    def check(self, use: Use) -> None: ...


def step(distiller: Distiller, student: Projecting, *, whole: bool, **options: Any) -> list[Tensor]:
    """The loss, its parts, and the gradients of the student."""
    student.whole = whole
    loss = distiller.loss(student(INPUTS), LABELS, INPUTS, **options)
    last = distiller.last
    parts = [] if last is None else [torch.tensor([last.task_loss, last.distill_loss])]
    return [loss.detach(), *parts, *torch.autograd.grad(loss, list(student.parameters()))]


def check_the_same(make: Callable[[], Distiller], student: Projecting, **options: Any) -> None:
    expected = step(make(), student, whole=True, **options)
    found = step(make(), student, whole=False, **options)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("loss", ["kl", "reverse_kl", "jsd", "mse", "huber", "dkd", "dist"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "num_items": 20}])
def test_losses_and_gradients_are_those_of_the_logits(loss: str, options: dict[str, Any], logits: Make) -> None:
    student, teacher = Projecting(logits), Projecting(logits, 5)
    check_the_same(lambda: Distiller(teacher, total_steps=4, loss=loss, temperature=2.0), student, **options)


@pytest.mark.parametrize("whole", [(False, False), (True, False), (True, True)])
def test_several_teachers_some_of_which_give_logits(whole: tuple[bool, bool], logits: Make) -> None:
    student = Projecting(logits)
    teachers = [Projecting(logits, 2 + number, whole=one) for number, one in enumerate(whole)]
    check_the_same(lambda: Distiller(TeacherPool(teachers, draw="all"), total_steps=4), student)


def test_a_student_that_gives_logits_takes_a_teacher_that_does_not(logits: Make) -> None:
    student, teacher = Projecting(logits), Projecting(logits, 5, whole=True)
    expected = step(Distiller(teacher, total_steps=4), student, whole=True)
    teacher.whole = False
    for one, other in zip(step(Distiller(teacher, total_steps=4), student, whole=True), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("residence", ["device", "stream"])
def test_part_of_a_batch_and_teachers_that_wait(residence: Any, logits: Make) -> None:
    """Those that wait elsewhere make their logits while they are there."""
    student = Projecting(logits)
    teachers = [Projecting(logits, 3) for _ in range(3)]

    def make() -> Distiller:
        pool = TeacherPool(teachers, draw=2, residence=residence)
        return Distiller(pool, total_steps=4, fraction=0.5)

    check_the_same(make, student)


@pytest.mark.parametrize("kind", ["top-k", "sampled"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "num_items": 20}])
def test_sparse_targets(kind: str, options: dict[str, Any], logits: Make) -> None:
    given, student = logits(ROWS, CLASSES), Projecting(logits)
    uniforms = torch.rand(ROWS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    target = top_k_target(given, 3, 2.0) if kind == "top-k" else sampled_target(given, 8, 2.0, uniforms)
    source = Stored(target, sparse=True)
    check_the_same(lambda: Distiller(source, total_steps=4, temperature=2.0), student, **options)


def test_a_step_that_is_not_distilled_is_the_task_loss(logits: Make) -> None:
    student = Projecting(logits)
    distiller = Distiller(Projecting(logits), total_steps=4, start=0.5, stop=1.0)
    expected = F.cross_entropy(as_logits(student(INPUTS)), LABELS)
    torch.testing.assert_close(distiller.loss(student(INPUTS), LABELS, INPUTS), expected)
    with torch.no_grad():
        torch.testing.assert_close(distiller.loss(student(INPUTS), LABELS, INPUTS), expected)


@pytest.mark.parametrize("classes", [CLASSES, [6, 0, 1, 2, 3, 4, 5]])
def test_a_teachers_classes_are_rows_of_its_head(classes: Any, logits: Make) -> None:
    student, module = Projecting(logits), Projecting(logits, 5, classes=9)
    check_the_same(lambda: Distiller(Teacher(module, classes=classes), total_steps=4), student)
    teacher = Teacher(module, classes=classes)
    picked = as_logits(module(INPUTS))[:, classes if isinstance(classes, list) else slice(classes)]
    torch.testing.assert_close(teacher.logits(INPUTS), picked)


def test_prefetched_targets_are_the_same(logits: Make) -> None:
    student, teacher = Projecting(logits), Projecting(logits, 5)
    expected = step(Distiller(teacher, total_steps=4), student, whole=False)
    distiller = Distiller(teacher, total_steps=4)
    distiller.prefetch(INPUTS)
    for one, other in zip(step(distiller, student, whole=False), expected, strict=True):
        assert torch.equal(one, other)


def test_logits_found_not_finite_while_they_are_made_are_reported(logits: Make) -> None:
    """Finite states times finite weights may overflow."""
    student, teacher = Projecting(logits), Projecting(logits, 5)
    with torch.no_grad():
        teacher.head[2] = 1e308
        teacher.body.mul_(1e10)
    distiller = Distiller(teacher, total_steps=4)
    loss = distiller.loss(student(INPUTS), LABELS, INPUTS)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, list(student.parameters())))
    distiller.step()
    with pytest.raises(TeacherError, match="teacher 'Projecting' gave non-finite logits at step 0"):
        distiller.step()


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_an_automatic_stop_sees_the_same(fraction: float, logits: Make) -> None:
    """It looks at some of the rows, and needs their logits."""
    student, teacher = Projecting(logits), Projecting(logits, 5)
    told = []
    for whole in (True, False):
        student.whole = teacher.whole = whole
        distiller = Distiller(teacher, total_steps=4, stop="auto", warmup=0.0, fraction=fraction)
        distiller.loss(student(INPUTS), LABELS, INPUTS)
        assert distiller._when.automatic is not None
        told.append(distiller._when.automatic._step)
    assert told[0] is not None and float(told[0][0]) == (8 if fraction == 1.0 else 5)
    torch.testing.assert_close(told[1], told[0])


def test_a_teacher_of_other_classes_is_refused(logits: Make) -> None:
    distiller = Distiller(Projecting(logits, classes=9), total_steps=4)
    with pytest.raises(TeacherError, match=r"gives logits of shape \(10, 9\), the student \(10, 7\)"):
        distiller.loss(Projecting(logits)(INPUTS), LABELS, INPUTS)
