"""Pools of sharded teachers, by one process: whole as ever. tests/train/test_sharded_teachers.py has two processes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from headstart.distill import Distiller, Teacher, TeacherPool
from headstart.errors import TeacherError

CPU = torch.device("cpu")


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def test_one_process_keeps_them_whole() -> None:
    modules = [network(), network()]
    resident = TeacherPool(copy.deepcopy(modules))
    sharded = TeacherPool(modules, residence="sharded")
    images = torch.randn(2, 3, 6, 6)
    for step in range(6):
        pools = (pool.asked(step, CPU, following=step + 1) for pool in (resident, sharded))
        one, other = (next(iter(asked)).targets(images, None) for asked in pools)
        assert isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        assert torch.equal(one, other)
    assert all(sharded.outline(teacher) is teacher.module for teacher in sharded.live)
    assert not any(type(parameter) is not nn.Parameter for parameter in modules[0].parameters())


@pytest.mark.parametrize(
    ("teacher", "options", "message"),
    [
        (Teacher(nn.Linear(2, 3), device="cpu"), {}, r"'Linear' stays on cpu, but residence='sharded' spreads teach"),
        (Teacher(network(), fold=True), {}, r"is folded or compiled, so that its layers are not called one by one"),
        (Teacher(nn.Linear(2, 3), compile=True), {}, r"'Linear' is folded or compiled, .*; leave fold and compile out"),
        (nn.Linear(2, 3), {"per_rank": True}, r"per_rank=True with residence='sharded': all processes have to ask the"),
        (nn.Linear(2, 3), {"spool": "x"}, r"spool='x': teachers wait in files with residence='stream' only"),
    ],
)
def test_messages(teacher: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        TeacherPool([teacher], residence="sharded", **options)


def test_a_distiller_takes_such_a_pool() -> None:
    distiller = Distiller(TeacherPool([nn.Linear(2, 3)], residence="sharded"), total_steps=4)
    inputs, labels = torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
    distiller.loss(nn.Linear(2, 3)(inputs), labels, inputs).backward()  # type: ignore[no-untyped-call]
    assert distiller.last is not None and distiller.last.teachers == ("Linear",)
