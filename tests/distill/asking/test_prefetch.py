"""Targets computed ahead: the same numbers as without, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import Distiller, TeacherPool
from headstart.distill.asking.prefetch import Early
from headstart.distill.targets.sparse import TopK
from headstart.errors import HeadstartError
from tests.distill.batch import INPUTS, LABELS

Counting = Callable[..., Any]


def gradients(distiller: Distiller, student: nn.Module, *, ahead: bool) -> list[Tensor]:
    """Loss and gradients of a step, and the step counted."""
    if ahead:
        distiller.prefetch(INPUTS)
    logits = student(INPUTS)
    loss = distiller(F.cross_entropy(logits, LABELS), logits, INPUTS)
    found = [loss, *torch.autograd.grad(loss, list(student.parameters()))]
    distiller.step()
    return found


@pytest.mark.parametrize("draw", [1, "all"])
def test_changes_nothing_but_when_teachers_run(draw: Any, student: nn.Module, counting: Counting) -> None:
    teachers = [counting() for _ in range(3)]
    with_it, without = (Distiller(TeacherPool(teachers, draw=draw), total_steps=8, every=2, stop=1.0) for _ in range(2))
    for step in range(8):
        expected = gradients(without, student, ahead=False)
        before = sum(teacher.calls for teacher in teachers)
        found = gradients(with_it, student, ahead=True)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        asked = 0 if step % 2 else 3 if draw == "all" else 1
        assert sum(teacher.calls for teacher in teachers) == before + asked


def test_teachers_run_before_the_student(counting: Counting, student: nn.Module) -> None:
    teacher = counting()
    distiller = Distiller(teacher, total_steps=2)
    distiller.prefetch(INPUTS)
    assert teacher.calls == 1
    distiller.loss(student(INPUTS), LABELS, INPUTS)
    assert teacher.calls == 1


def test_does_nothing_where_the_call_would_not(counting: Counting) -> None:
    teacher = counting()
    distiller = Distiller(teacher, total_steps=4, start=0.5, stop=1.0)
    distiller.prefetch(INPUTS)
    distiller.current_step = 2
    with torch.no_grad():
        distiller.prefetch(INPUTS)
    assert teacher.calls == 0
    distiller.current_step = 4  # the window has closed and the teachers are gone
    distiller.prefetch(INPUTS)


def test_other_inputs_are_refused(counting: Counting, student: nn.Module) -> None:
    distiller = Distiller(counting(), total_steps=2)
    distiller.prefetch(INPUTS.clone())
    with pytest.raises(HeadstartError, match="prefetch was called with other inputs than this call"):
        gradients(distiller, student, ahead=False)
    gradients(distiller, student, ahead=False)  # and are forgotten then


def test_a_batch_that_was_left_out_is_forgotten(counting: Counting, student: nn.Module) -> None:
    """By the next batch, and by the next step, which may draw another teacher."""
    first, second = counting(), counting()
    distiller = Distiller([first, second], total_steps=50, stop=1.0)
    distiller.prefetch(INPUTS.clone())
    distiller.prefetch(INPUTS)
    assert distiller.last is None
    gradients(distiller, student, ahead=False)
    drawn = next(step for step in range(1, 50) if _drawn(distiller, step) != _drawn(distiller, step + 1))
    distiller.current_step = drawn
    distiller.prefetch(INPUTS)
    distiller.current_step = drawn + 1
    before = first.calls + second.calls
    gradients(distiller, student, ahead=False)
    assert first.calls + second.calls == before + 1


def _drawn(distiller: Distiller, step: int) -> tuple[int, ...]:
    return TeacherPool([nn.Linear(1, 1), nn.Linear(1, 1)]).chosen(step)


def test_inputs_without_tensors_wait_for_the_call(counting: Counting, student: nn.Module) -> None:
    """Nothing tells the device; the teacher makes its own of them."""
    texts, teacher = ("a", "b"), nn.Sequential(counting())
    teacher.register_forward_pre_hook(lambda module, args: (INPUTS,))
    distiller = Distiller(teacher, total_steps=2)
    distiller.prefetch(texts)
    assert teacher[0].calls == 0
    logits = student(INPUTS)
    distiller(logits.sum(), logits, texts)
    assert teacher[0].calls == 1


class Noted(torch.Tensor):
    """Notes on which stream it is said to be used."""

    used_on: list[Any]

    def record_stream(self, stream: Any) -> None:
        self.used_on.append(stream)


class Stream:
    """Notes what it waits for."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.waited_for = device, list[Stream]()

    def wait_stream(self, other: Stream) -> None:
        self.waited_for.append(other)


def test_streams_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The side stream for the main one before it begins, the main one for it before targets are used."""
    device = torch.device("cuda", 0)
    main, present = Stream(device), list[Stream]()
    present.append(main)

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        present.append(stream)
        yield
        present.pop()

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: present[-1])
    monkeypatch.setattr(torch.cuda, "stream", on)
    early, inputs, side = Early(), object(), list[Stream]()
    targets = [torch.zeros(2, width).as_subclass(Noted) for width in (3, 1, 2)]
    for target in targets:
        target.used_on = []
    dense, indices, values = targets

    def compute() -> list[Any]:
        assert present[-1].waited_for == [main] and not main.waited_for
        side.append(present[-1])
        return [[dense], [TopK(indices, values, 1.0, 3)]]

    early.start(inputs, device, compute)
    assert not main.waited_for
    assert early.take(inputs) is not None
    assert main.waited_for == side and side[0] is not main
    assert [target.used_on for target in targets] == [[main]] * 3
    side[0].waited_for.clear()
    main.waited_for.clear()
    early.start(inputs, device, compute)
    assert side[0] is side[1]  # one stream for all batches


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_they_run_beside_the_student(student: nn.Module, counting: Counting) -> None:
    """A slow teacher is waited for, though it works on another stream; memory of its logits is not used too soon."""
    streams = []

    def slow(module: nn.Module, args: Any) -> None:
        streams.append(torch.cuda.current_stream())
        torch.cuda._sleep(20_000_000)  # type: ignore[no-untyped-call]

    teacher, student, inputs, labels = counting().cuda(), student.cuda(), INPUTS.cuda(), LABELS.cuda()
    teacher.register_forward_pre_hook(slow)
    losses = []
    for ahead in (False, True):
        distiller = Distiller(teacher, total_steps=10)
        for _ in range(5):
            if ahead:
                distiller.prefetch(inputs)
            losses.append(distiller.loss(student(inputs), labels, inputs))
            distiller.step()
    assert all(torch.equal(loss, losses[0]) for loss in losses)
    assert {stream == torch.cuda.current_stream() for stream in streams[:5]} == {True}
    assert {stream == torch.cuda.current_stream() for stream in streams[5:]} == {False}
