"""The Distiller over a whole training: when it works, that it is out of the way otherwise, and what it remembers."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from headstart.distill import Distiller, Teacher
from headstart.errors import TeacherError
from tests.distill.batch import call

Counting = Callable[..., Any]


class TestOutOfTheWay:
    @pytest.mark.parametrize(
        "options",
        [
            {"start": 0.2, "stop": 0.5},
            {"stop": 1.0, "every": 3},
            {"start": 0.1, "stop": 0.8, "every": 2, "ramp_down": 0.3},
            {"start": 0.5, "stop": 0.5},
            {"stop": 0.0},
        ],
        ids=str,
    )
    def test_the_task_loss_itself_comes_back(
        self, options: dict[str, Any], student: nn.Module, counting: Counting
    ) -> None:
        teacher = counting()
        distiller = Distiller(teacher, total_steps=20, **options)
        same = []
        for _ in range(25):  # training may also go on for longer than announced
            task, loss = call(distiller, student)
            same.append(loss is task)
            assert distiller.active == (loss is not task)
            distiller.step()
        assert teacher.calls == same.count(False) == distiller.window.distilled_steps(20)
        assert teacher.modes <= {False}

    @pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
    def test_evaluation(self, off: Callable[[], Any], student: nn.Module, counting: Counting) -> None:
        teacher = counting()
        distiller = Distiller(teacher, total_steps=10)
        with off():
            task, loss = call(distiller, student)
        assert loss is task
        assert teacher.calls == 0
        assert distiller.last is None

    @pytest.mark.parametrize("every", [1, 3])
    def test_teachers_are_let_go(self, every: int, student: nn.Module, counting: Counting) -> None:
        """After the last distilled step and not before, nothing holds a teacher any more."""
        modules = [counting() for _ in range(3)]
        references = [weakref.ref(module) for module in modules]
        distiller = Distiller(modules, total_steps=20, stop=0.5, every=every)
        del modules
        last = max(step for step in range(20) if distiller.window.scale(step, 20))
        for step in range(last + 1):
            assert all(reference() is not None for reference in references), step
            torch.autograd.backward(call(distiller, student)[1])
            distiller.step()
        gc.collect()
        assert all(reference() is None for reference in references)
        task, loss = call(distiller, student)
        assert loss is task

    @pytest.mark.parametrize("stop", [0.0, 0.5])
    def test_a_window_closed_from_the_start_keeps_nothing(self, stop: float, counting: Counting) -> None:
        teacher = counting()
        reference = weakref.ref(teacher)
        distiller = Distiller(teacher, total_steps=10, start=stop, stop=stop)
        del teacher
        gc.collect()
        assert reference() is None
        assert not distiller.active

    def test_going_back_after_the_end(self, student: nn.Module, counting: Counting) -> None:
        distiller = Distiller(counting(), total_steps=10, stop=0.5)
        distiller.current_step = 5
        distiller.current_step = 4
        with pytest.raises(TeacherError, match=r"step 4 is inside the window, but .* let go .* make a new Distiller"):
            call(distiller, student)


def _drawn(distiller: Distiller, student: nn.Module, steps: int) -> list[tuple[str, ...]]:
    drawn = []
    for _ in range(steps):
        call(distiller, student)
        assert distiller.last is not None
        drawn.append(distiller.last.teachers)
        distiller.step()
    return drawn


class TestSteps:
    def test_may_be_set_instead_of_counted(self, student: nn.Module, counting: Counting) -> None:
        teachers = [counting() for _ in range(3)]
        counted = _drawn(Distiller(teachers, total_steps=20, stop=1.0), student, 20)
        distiller = Distiller(teachers, total_steps=20, stop=1.0)
        for step in [3, 3, 11, 0, 19]:
            distiller.current_step = step
            call(distiller, student)
            assert distiller.last is not None
            assert (distiller.last.step, distiller.last.teachers) == (step, counted[step])

    def test_resume(self, student: nn.Module, counting: Counting) -> None:
        teachers = [counting() for _ in range(3)]
        whole = _drawn(Distiller(teachers, total_steps=20, stop=1.0), student, 20)
        assert len(set(whole)) == 3
        killed = Distiller(teachers, total_steps=20, stop=1.0)
        before = _drawn(killed, student, 7)
        resumed = Distiller(teachers, total_steps=20, stop=1.0)
        resumed.load_state_dict(json.loads(json.dumps(killed.state_dict())))
        assert before + _drawn(resumed, student, 13) == whole

    def test_state_is_small(self, student: nn.Module, counting: Counting) -> None:
        distiller = Distiller([counting() for _ in range(3)], total_steps=20)
        _drawn(distiller, student, 4)
        assert distiller.state_dict() == {"current_step": 4}

    def test_resume_after_the_window_keeps_no_teacher(self, counting: Counting) -> None:
        teacher = counting()
        reference = weakref.ref(teacher)
        distiller = Distiller(teacher, total_steps=20)
        del teacher
        distiller.load_state_dict({"current_step": 15})
        gc.collect()
        assert reference() is None


class TestLast:
    def test_tells_what_was_done(self, student: nn.Module, counting: Counting) -> None:
        teacher = counting()
        distiller = Distiller(Teacher(teacher, name="old"), total_steps=10, weight=0.25)
        assert distiller.last is None
        task, loss = call(distiller, student)
        last = distiller.last
        assert last is not None
        assert (last.step, last.teachers, last.weight) == (0, ("old",), 0.25)
        assert last.task_loss == pytest.approx(task.item())
        assert 0.75 * last.task_loss + 0.25 * last.distill_loss == pytest.approx(loss.item())

    def test_holds_no_graph(self, student: nn.Module, counting: Counting) -> None:
        distiller = Distiller(counting(), total_steps=10)
        _, loss = call(distiller, student)
        graph = weakref.ref(loss)
        del loss, _
        gc.collect()
        assert graph() is None
        assert distiller.last is not None
