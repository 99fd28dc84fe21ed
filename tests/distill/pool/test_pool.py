"""Who is asked, what several teachers say together, and that one drawn is right on average."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor, distributed, nn

from headstart.distill import Distiller, Teacher, TeacherPool, average_logits
from headstart.distill.losses import LOSSES, Average
from headstart.distill.objective import Objective
from headstart.errors import TeacherError

Make = Callable[..., Tensor]
ROWS, CLASSES = 4, 5


def _modules(count: int) -> list[nn.Module]:
    return [nn.Linear(2, 3) for _ in range(count)]


def test_one_is_drawn_per_step_and_known_ahead() -> None:
    pool = TeacherPool(_modules(3), seed=5)
    drawn = [pool.chosen(step) for step in range(60)]
    assert {len(chosen) for chosen in drawn} == {1}
    assert {chosen[0] for chosen in drawn} == {0, 1, 2}
    assert [pool.chosen(step) for step in reversed(range(60))] == drawn[::-1]
    assert [TeacherPool(_modules(3), seed=5).chosen(step) for step in range(60)] == drawn
    assert [TeacherPool(_modules(3), seed=6).chosen(step) for step in range(60)] != drawn


@pytest.mark.parametrize("per_rank", [False, True])
def test_draw_over_ranks(per_rank: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = TeacherPool(_modules(4), per_rank=per_rank)
    alone = [pool.chosen(step) for step in range(40)]
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    draws = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        draws.append([pool.chosen(step) for step in range(40)])
    assert draws[0] == alone
    assert all((one != other) == per_rank for one, other in combinations(draws, 2))


def test_weights_are_the_odds_of_one_and_the_shares_of_all() -> None:
    one = TeacherPool(_modules(2), weights=[1, 9])
    assert sum(one.chosen(step) == (1,) for step in range(200)) > 150
    assert one.mean_weights((1,)) == [1.0]
    everyone = TeacherPool(_modules(2), draw="all", weights=[1, 3])
    assert everyone.chosen(7) == (0, 1)
    assert everyone.mean_weights((0, 1)) == [0.25, 0.75]
    assert TeacherPool(_modules(3), draw=2).mean_weights((0, 2)) == [0.5, 0.5]


def test_equal_names_are_numbered() -> None:
    teachers: list[nn.Module | Teacher] = [nn.Linear(2, 3), Teacher(nn.Linear(2, 3), name="old"), nn.Linear(2, 3)]
    pool = TeacherPool(teachers)
    assert [teacher.name for teacher in pool.teachers] == ["Linear #1", "old", "Linear #2"]
    assert [teacher.name for teacher in TeacherPool(pool.teachers[:2]).teachers] == ["Linear #1", "old"]


@pytest.mark.parametrize(
    ("teachers", "arguments", "message"),
    [
        ([], {}, "the pool of teachers is empty; give at least one, or leave the Distiller out"),
        ([nn.Identity()] * 2, {}, "the pool holds one module twice; use weights to draw a teacher more often"),
        (_modules(2), {"seed": 2**63}, r"seed=9223372036854775808 must be a signed 64-bit number"),
        (_modules(2), {"draw": 0}, r"draw=0 must be a number from 1 to 2 \(the pool's size\) or 'all'"),
        (_modules(2), {"draw": 3}, r"draw=3 must be a number from 1 to 2"),
        (_modules(2), {"draw": 1.5}, r"draw=1.5 must be a number"),
        (_modules(2), {"draw": "two"}, r"draw='two' must be a number"),
        (_modules(2), {"weights": [1.0]}, r"weights=\[1.0\] must be 2 positive numbers, one per teacher"),
        (_modules(2), {"weights": [1.0, 0.0]}, r"weights=\[1.0, 0.0\] must be 2 positive numbers"),
        (_modules(2), {"weights": [1.0, float("nan")]}, r"must be 2 positive numbers"),
        (_modules(2), {"weights": [1.0, float("inf")]}, r"must be 2 positive numbers"),
        (_modules(3), {"weights": [1, 2, 3], "draw": 2}, r"weights with draw=2 of 3 would bias the mean; draw 1 or"),
        ("teacher.pt", {}, r"a teacher must be a torch module, not str"),
    ],
)
def test_messages(teachers: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        TeacherPool(teachers, **arguments)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.2, 0.7, 0.1]])
def test_average(weights: list[float], temperature: float, logits: Make) -> None:
    parts = [logits(ROWS, CLASSES) for _ in weights]
    mean = average_logits(parts, weights, by="logit", temperature=temperature)
    np.testing.assert_allclose(mean, np.average(parts, axis=0, weights=weights), rtol=1e-12)
    mixed = average_logits(parts, weights, by="probability", temperature=temperature)
    probabilities = [special.softmax(part.numpy() / temperature, axis=-1) for part in parts]
    expected = np.average(probabilities, axis=0, weights=weights)
    np.testing.assert_allclose(special.softmax(mixed.numpy() / temperature, axis=-1), expected, rtol=1e-12)


@pytest.mark.parametrize("by", ["logit", "probability"])
def test_average_of_one_and_of_half_precision(by: Average, logits: Make) -> None:
    one = logits(ROWS, CLASSES).bfloat16()
    assert average_logits([one], [1.0], by=by) is one
    mixed = average_logits([one, logits(ROWS, CLASSES).bfloat16()], [0.5, 0.5], by=by)
    assert mixed.dtype == torch.float32


def _gradient(objective: Objective, student: Tensor, teachers: list[Tensor], shares: list[float]) -> Tensor:
    leaf = student.clone().requires_grad_()
    value = objective(leaf, teachers, shares, keep=torch.ones(ROWS, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(value, leaf)
    return gradient


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 2.0, 5.0]], ids=["uniform", "weighted"])
@pytest.mark.parametrize("name", ["kl", "reverse_kl", "mse"])
def test_one_drawn_teacher_is_right_on_average(
    name: str, weights: list[float], standardize: bool, logits: Make
) -> None:
    """The mean gradient over all draws, with their odds, is that of the mean of the pool.

    For forward KL that is the mean of tempered probabilities, for reverse KL and MSE that of logits; the mean of the
    other kind gives another gradient.
    """
    pool = TeacherPool(_modules(3), draw="all", weights=weights)
    odds = pool.mean_weights((0, 1, 2))
    student, teachers = logits(ROWS, CLASSES), [logits(ROWS, CLASSES) for _ in weights]
    objective = Objective(LOSSES[name], 4.0, standardize, LOSSES[name].average)
    one_drawn = sum(
        (
            share * _gradient(objective, student, [teacher], [1.0])
            for share, teacher in zip(odds, teachers, strict=True)
        ),
        torch.zeros_like(student),
    )
    torch.testing.assert_close(one_drawn, _gradient(objective, student, teachers, odds), rtol=1e-9, atol=1e-12)
    other: Average = "logit" if objective.average == "probability" else "probability"
    biased = _gradient(Objective(LOSSES[name], 4.0, standardize, other), student, teachers, odds)
    assert (one_drawn - biased).abs().max() > 1e-4


def test_two_of_three_are_right_on_average(logits: Make) -> None:
    """All pairs are equally likely, and their means' mean is the mean of all."""
    student, teachers = logits(ROWS, CLASSES), [logits(ROWS, CLASSES) for _ in range(3)]
    for name in ("kl", "reverse_kl", "mse"):
        objective = Objective(LOSSES[name], 2.0, False, LOSSES[name].average)
        pairs = [_gradient(objective, student, list(pair), [0.5, 0.5]) for pair in combinations(teachers, 2)]
        everyone = _gradient(objective, student, teachers, [1 / 3] * 3)
        torch.testing.assert_close(torch.stack(pairs).mean(0), everyone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda modules: TeacherPool(modules),
        lambda modules: modules,
        lambda modules: tuple(modules),
        lambda modules: nn.ModuleList(modules),
        lambda modules: (module for module in modules),
        lambda modules: [Teacher(module) for module in modules],
    ],
    ids=["pool", "list", "tuple", "module list", "generator", "teachers"],
)
def test_what_a_distiller_takes_for_a_pool(make: Callable[[list[nn.Module]], Any]) -> None:
    distiller = Distiller(make(_modules(2)), total_steps=100, stop=1.0)
    logits = torch.zeros(1, 3, requires_grad=True)
    seen: set[str] = set()
    for _ in range(20):
        distiller(logits.sum(), logits, torch.zeros(1, 2))
        assert distiller.last is not None
        seen.update(distiller.last.teachers)
        distiller.step()
    assert seen == {"Linear #1", "Linear #2"}
