"""What is not a number never reaches the student, and is told with the teacher's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from headstart.distill import LOSSES, Distiller, Teacher, TeacherPool
from headstart.distill.nonfinite import NonFiniteFlags, finite_rows
from headstart.distill.targets.source import Keys, Target, TargetSource, Use
from headstart.distill.targets.sparse import top_k_target
from headstart.errors import TeacherError

Make = Callable[..., Tensor]
Give = Callable[[object], nn.Module]
NAN, INF = float("nan"), float("inf")
BAD = [NAN, INF, -INF]
INPUTS = torch.zeros(4, 2)
LABELS = torch.tensor([0, 1, 2, 0])
GOOD, SICK = torch.tensor([True, True, True]), torch.tensor([True, False, True])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_finite_rows(dtype: torch.dtype) -> None:
    lowest = torch.finfo(dtype).min
    rows = [[0.0, 1.0, 2.0], [lowest, lowest, 1.0], [lowest, -lowest, 0.0]]
    rows += [[0.0, bad, 2.0] for bad in BAD] + [[INF, -INF, 0.0], [NAN, INF, 0.0]]
    logits = torch.tensor(rows, dtype=torch.float64).to(dtype)
    assert finite_rows(logits).tolist() == np.isfinite(logits.double().numpy()).all(-1).tolist()
    assert finite_rows(logits[:0]).tolist() == []


class Sparse(TargetSource):
    """Cached targets, which nobody has to look at: they are finite."""

    name, sparse = "cached", True

    def targets(self, inputs: Tensor, keys: Keys | None) -> Target:
        return top_k_target(torch.zeros(len(inputs), 3), 2, 4.0)

    def to(self, device: torch.device) -> None:
        pass

    def check(self, use: Use) -> None:
        pass


def test_processes_that_draw_differently_agree_at_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or one would wait for the others for ever."""
    steps: dict[int, list[int]] = {0: [], 1: []}
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    for rank, agreed in steps.items():
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        pool = TeacherPool([nn.Linear(2, 3), Sparse()], per_rank=True)
        distiller, student = Distiller(pool, total_steps=20), nn.Linear(2, 3)
        monkeypatch.setattr(distributed, "all_reduce", lambda *_, **__: agreed.append(distiller.current_step))  # noqa: B023
        for _ in range(10):
            distiller.loss(student(INPUTS), LABELS, INPUTS)
            distiller.step()
    assert steps[0] == steps[1] == list(range(10))


class TestFlags:
    def test_are_read_one_step_later(self) -> None:
        flags = NonFiniteFlags(["a", "b"])
        flags.mark(1, SICK)
        flags.mark(1, GOOD)  # the next micro-batch does not take it back
        flags.hand_over(3, distilled=True)
        with pytest.raises(TeacherError, match=r"teacher 'b' gave non-finite logits at step 3; .* Check its weights"):
            flags.hand_over(4, distilled=True)
        flags.hand_over(5, distilled=True)
        flags.check()

    def test_stay_quiet_when_all_is_well(self) -> None:
        flags = NonFiniteFlags(["a"])
        for step in range(3):
            flags.mark(0, GOOD)
            flags.hand_over(step, distilled=True)
        flags.hand_over(3, distilled=False)  # a step without distillation
        flags.check()

    @pytest.mark.parametrize("distilled", [True, False])
    def test_a_process_without_anything_to_distil_agrees_as_well(
        self, distilled: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        agreed: list[Tensor] = []
        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "get_backend", lambda: "gloo")
        monkeypatch.setattr(distributed, "all_reduce", lambda flags, op: agreed.append(flags))
        NonFiniteFlags(["a", "b"]).hand_over(0, distilled=distilled)
        assert [flags.tolist() for flags in agreed] == ([[0, 0]] if distilled else [])

    def test_name_all_that_are_sick(self) -> None:
        flags = NonFiniteFlags(["a", "b", "c"])
        flags.mark(0, SICK)
        flags.mark(1, GOOD)
        flags.mark(2, SICK)
        flags.hand_over(0, distilled=True)
        with pytest.raises(TeacherError, match="teacher 'a' and 'c' gave"):
            flags.check()

    def test_are_agreed_over_ranks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where another process met it, this one raises as well, at the same step."""

        def all_reduce(flags: Tensor, op: object) -> None:
            assert op is distributed.ReduceOp.MAX
            torch.maximum(flags, torch.tensor([0, 1], dtype=flags.dtype), out=flags)

        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "all_reduce", all_reduce)
        flags = NonFiniteFlags(["a", "b"])
        flags.mark(0, GOOD)
        flags.hand_over(0, distilled=True)
        with pytest.raises(TeacherError, match="'b' gave non-finite logits at step 0"):
            flags.hand_over(1, distilled=True)


def _call(distiller: Distiller, student: Tensor, labels: Tensor = LABELS) -> tuple[Tensor, Tensor]:
    leaf = student.clone().requires_grad_()
    loss = distiller(F.cross_entropy(leaf, labels), leaf, INPUTS[: len(leaf)], labels=labels)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def _sick(teacher: Tensor, bad: float, row: int = 1) -> Tensor:
    teacher = teacher.clone()
    teacher[row, 0] = bad
    return teacher


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_row_is_left_out(name: str, standardize: bool, bad: float, logits: Make, given: Give) -> None:
    """Loss and gradient are those of the batch in which that row has only its task loss."""
    student, teacher = logits(4, 3), logits(4, 3)
    others = torch.tensor([0, 2, 3])
    options: dict[str, Any] = {"total_steps": 1, "stop": 1.0, "loss": name, "standardize": standardize, "weight": 1.0}
    loss, gradient = _call(Distiller(given(_sick(teacher, bad)), **options), student)
    expected, without = _call(Distiller(given(teacher[others]), **options), student[others], LABELS[others])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient[others], without)
    assert torch.equal(gradient[1], torch.zeros(3, dtype=torch.float64))


def test_a_row_that_one_of_several_spoils_is_left_out(logits: Make, given: Give) -> None:
    student, teachers = logits(4, 3), [logits(4, 3), logits(4, 3)]
    pool = TeacherPool([given(teachers[0]), Teacher(given(_sick(teachers[1], NAN)), name="sick")], draw="all")
    distiller = Distiller(pool, total_steps=4, stop=1.0, weight=1.0)
    _, gradient = _call(distiller, student)
    assert gradient.isfinite().all()
    assert gradient.abs().sum(-1).gt(0).tolist() == [True, False, True, True]
    distiller.step()
    with pytest.raises(TeacherError, match="teacher 'sick' gave"):
        distiller.step()


def test_all_rows_bad(given: Give) -> None:
    student = torch.randn(4, 3)
    distiller = Distiller(given(torch.full((4, 3), NAN)), total_steps=4, stop=1.0, weight=0.5)
    loss, gradient = _call(distiller, student)
    leaf = student.clone().requires_grad_()
    task = F.cross_entropy(leaf, LABELS)
    torch.testing.assert_close(loss, 0.5 * task.detach())
    torch.testing.assert_close(gradient, 0.5 * torch.autograd.grad(task, leaf)[0])


def _advance(distiller: Distiller) -> None:
    distiller.current_step = distiller.current_step + 1


@pytest.mark.parametrize(
    ("stop", "then"),
    [
        (1.0, [Distiller.step, Distiller.step]),
        (1.0, [Distiller.step, Distiller.state_dict]),
        (1.0, [_advance, _advance]),
        (0.1, [Distiller.step]),
        (0.1, [_advance]),
    ],
    ids=["at the next step", "from state_dict", "where the step is set", "at the window's end", "set to its end"],
)
def test_is_told(stop: float, then: list[Callable[[Distiller], object]], given: Give) -> None:
    distiller = Distiller(Teacher(given(_sick(torch.zeros(4, 3), NAN)), name="old"), total_steps=10, stop=stop)
    _call(distiller, torch.randn(4, 3))
    for action in then[:-1]:
        action(distiller)
    message = "teacher 'old' gave non-finite logits at step 0; the rows were left out of the loss. Check its weights"
    with pytest.raises(TeacherError, match=message):
        then[-1](distiller)


def test_setting_the_same_step_again_tells_nothing_yet(given: Give) -> None:
    """Trainers set it once per micro-batch."""
    distiller = Distiller(given(_sick(torch.zeros(4, 3), NAN)), total_steps=10, stop=1.0)
    for _ in range(3):
        distiller.current_step = 0
        _call(distiller, torch.randn(4, 3))
    distiller.current_step = 1
    with pytest.raises(TeacherError, match="at step 0"):
        distiller.current_step = 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("draw", [1, 2])
def test_a_step_never_waits_for_the_device(draw: int) -> None:
    device = torch.device("cuda")
    student = nn.Linear(4, 3).to(device)
    pool = TeacherPool([nn.Linear(4, 3).to(device) for _ in range(2)], draw=draw)
    distiller = Distiller(pool, total_steps=20, stop=1.0)
    inputs, labels = torch.randn(8, 4, device=device), torch.zeros(8, dtype=torch.int64, device=device)
    for _ in range(8):  # what each teacher gives first is looked at: see first_look
        logits = student(inputs)
        distiller(logits.sum(), logits, inputs)
        distiller.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            logits = student(inputs)
            loss = distiller(F.cross_entropy(logits, labels), logits, inputs, labels=labels)
            torch.autograd.backward(loss)
            distiller.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
