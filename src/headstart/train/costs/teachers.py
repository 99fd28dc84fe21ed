"""What was spent before a run on what it learns from: teachers, and weights that it starts from."""

from __future__ import annotations

from pathlib import Path

from headstart.cache import CachedTeacher
from headstart.distill import Teacher
from headstart.distill.targets.source import TargetSource
from headstart.recipe.recorded import steps_today
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
    return weights_cost(spec, sum(parameter.numel() for parameter in teacher.module.parameters()), path)


def weights_cost(spec: str, parameters: int | None, path: str | Path) -> TeacherCost:
    """The cost of making a model's weights, as far as that is known.

    Args:
        spec: Its name in the record.
        parameters: How many it has; None: not known.
        path: Where it lies; a run folder tells what training it cost.
    """
    record = find_teacher(path).record
    if record is None:
        return TeacherCost(name=spec, parameters=parameters)
    return TeacherCost(
        name=spec,
        parameters=parameters,
        quality=record.quality,
        seconds=record.seconds,
        flops=record.flops,
        steps=steps_today(record),
    )
