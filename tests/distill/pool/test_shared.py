"""A student that shares parameters with its teacher is refused before a weight has moved."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import optimizer as of_torch

from headstart.distill import Distiller
from headstart.errors import TeacherError
from tests.distill.batch import CLASSES, FEATURES, INPUTS, LABELS


def large() -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def train(student: nn.Module, distiller: Distiller, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(steps):
        logits = student(INPUTS)
        distiller(F.cross_entropy(logits, LABELS), logits, INPUTS).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        distiller.step()


def test_some_layers_by_reference_are_refused() -> None:
    teacher = large()
    student = nn.Sequential(teacher[0], nn.ReLU(), nn.Linear(6, CLASSES))
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(TeacherError, match=r"'Sequential' shares 0.weight, 0.bias with the student.*copy.deepcopy"):
        train(student, Distiller(teacher, total_steps=4))
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_other_parameters_in_the_same_memory_are_refused() -> None:
    teacher, student = large(), large()
    student.load_state_dict(teacher.state_dict(), assign=True)
    with pytest.raises(TeacherError, match=r"'Sequential' shares 0.weight"):
        train(student, Distiller(teacher, total_steps=4))


def test_copies_of_layers_are_taken_and_nothing_stays_behind() -> None:
    """The look is at the first step alone, and is gone with it or with the Distiller."""
    others = set(of_torch._global_optimizer_pre_hooks)  # of tests before this one, whose Distillers may go meanwhile
    teacher = large()
    student = nn.Sequential(copy.deepcopy(teacher[0]), nn.ReLU(), nn.Linear(6, CLASSES))
    distiller = Distiller(teacher, total_steps=8)
    student.requires_grad_()
    train(student, distiller, steps=1)
    assert not of_torch._global_optimizer_pre_hooks.keys() - others
    other = Distiller(teacher, total_steps=8)
    other.loss(student(INPUTS), LABELS, INPUTS)
    assert len(of_torch._global_optimizer_pre_hooks.keys() - others) == 1
    del other
    gc.collect()
    assert not of_torch._global_optimizer_pre_hooks.keys() - others
