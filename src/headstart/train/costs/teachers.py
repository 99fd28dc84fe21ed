"""What was spent before a run on what it learns from: teachers, and weights that it starts from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from headstart.cache import CachedTeacher
from headstart.distill import Teacher
from headstart.distill.targets.source import TargetSource
from headstart.records import TeacherCost
from headstart.teachers import find_teacher


def teacher_cost(spec: str, teacher: TargetSource, path: str | Path) -> TeacherCost:
    """The cost of making a teacher, as far as that is known.

    Args:
        spec: Its name in the record.
        teacher: A live one, or its cached targets: these know what training it cost when they were made.
        path: Where its weights lie; a run folder tells what training it cost.
    """
    if isinstance(teacher, CachedTeacher):
        return teacher.cost.model_copy(update={"name": spec})
    if not isinstance(teacher, Teacher):
        return TeacherCost(name=spec)
    return weights_cost(spec, teacher.module, path)


def weights_cost(spec: str, module: nn.Module, path: str | Path) -> TeacherCost:
    """The cost of making a module's weights, as far as that is known.

    Args:
        spec: Their name in the record.
        module: A module of their size.
        path: Where they lie; a run folder tells what training them cost.
    """
    parameters = sum(parameter.numel() for parameter in module.parameters())
    record = find_teacher(path).record
    if record is None:
        return TeacherCost(name=spec, parameters=parameters)
    return TeacherCost(
        name=spec,
        parameters=parameters,
        quality=record.quality,
        seconds=record.seconds,
        flops=record.flops,
        steps=record.steps,
    )
