"""What the loss does with student and teachers, and what that costs: the checks that take gradients and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.distill import Distiller, Teacher, Window
from headstart.distill.inputs import device_of
from headstart.errors import HeadstartError
from headstart.teachers.doctor import training_checks, trials
from headstart.teachers.doctor.check import Check
from headstart.teachers.doctor.observe import Batch
from headstart.teachers.doctor.student import Student


def examine_losses(
    teachers: Sequence[Teacher],
    student: Student,
    batch: Batch,
    parts: Sequence[Batch] | None,
    weight: float,
    settings: dict[str, Any],
    *,
    draw: int,
    window: Window,
) -> list[Check]:
    """The loss at agreement, and when a batch is cut; then time and memory.

    Args:
        teachers: Those that fit.
        student: The student.
        batch: Inputs and labels.
        parts: As in `doctor`.
        weight: As there.
        settings: Further arguments of a Distiller.
        draw: Teachers asked at a step.
        window: As in `doctor`.
    """
    try:
        found = _losses(teachers, student, batch, parts, weight, settings)
        return [*found, *_costs(teachers, student, batch, draw, window, settings)]
    except HeadstartError as error:  # what training would be refused for
        advice = "the Distiller refuses it in training too; change what it names"
        return [Check(name="loss", status="fail", finding=str(error), advice=advice)]


def _losses(
    teachers: Sequence[Teacher],
    student: Student,
    batch: Batch,
    parts: Sequence[Batch] | None,
    weight: float,
    settings: dict[str, Any],
) -> list[Check]:
    found = []
    with trials.unchanged(student.model, training=False):
        for teacher in teachers:
            alone = Distiller(teacher, total_steps=1, stop=1.0, weight=1.0, **settings)
            values = trials.at_agreement(alone, teacher, student, batch)
            found.append(
                training_checks.check_zero_at_agreement(values[0], values[1], values[2], values[3]).about(teacher.name)
            )
        parts = parts or trials.halves(batch)
        if parts is not None:
            distiller = Distiller(teachers[0], total_steps=1, stop=1.0, weight=weight, **settings)
            difference, dtype = trials.gradient_difference(student, distiller, batch, parts)
            found.append(training_checks.check_micro_batches(difference, 1e-3 if dtype.itemsize > 2 else 5e-2))
    return found


def _costs(
    teachers: Sequence[Teacher],
    student: Student,
    batch: Batch,
    draw: int,
    window: Window,
    settings: dict[str, Any],
) -> list[Check]:
    """Time and memory of distilling steps."""
    closed = Distiller(list(teachers), total_steps=1, stop=0.0, **settings)
    with trials.unchanged(student.model, training=True):
        step, forwards = trials.step_seconds(student, closed, teachers, batch)
    forward = min(draw, len(teachers)) * sum(forwards) / len(forwards)
    steps = 10_000  # so many that the window's ends fall between them
    found = [training_checks.check_cost(step, forward, window.distilled_steps(steps) / steps)]
    memory = trials.memory_of_training(student.model, device_of(batch[0]))
    return found if memory is None else [*found, training_checks.check_memory(*memory)]
