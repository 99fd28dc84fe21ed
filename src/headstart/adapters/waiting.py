"""Teachers and options that wait for a framework to tell how many steps it will train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from headstart.distill import Distiller, Teacher, TeacherPool
from headstart.distill.pool.pool import as_pool
from headstart.distill.pool.shared import refuse_shared
from headstart.errors import HeadstartError, TeacherError

Teachers = TeacherPool | nn.Module | Teacher | Iterable[nn.Module | Teacher]


class WaitingDistiller:
    """What a Distiller will be made of, in each training anew.

    Args:
        teachers: As in `Distiller`.
        options: The other arguments of `Distiller`, but for `total_steps`.
        **told: Arguments that the student tells, where the options do not name them.

    Raises:
        HeadstartError: A wrong option: now, and not once the data is prepared.
        TeacherError: A teacher that cannot be used.

    Example:
        >>> waiting = WaitingDistiller(nn.Linear(2, 3), {"stop": 0.4})
        >>> waiting.start(total_steps=10).window.stop
        0.4
    """

    def __init__(self, teachers: Teachers, options: Mapping[str, Any], **told: Any) -> None:
        if "total_steps" in options:
            raise HeadstartError("total_steps is the Trainer's own number of steps; leave it out")
        self.pool = as_pool(teachers)
        self._options = dict(options)
        Distiller(self.pool, total_steps=1, **{**told, **self._options})
        self._places = _places(self.pool) if self.pool.stays else {}

    def check_student(self, student: nn.Module) -> None:
        """Refuse a student that is one of its teachers, whatever is wrapped around it, or that shares some with one.

        Raises:
            TeacherError: Parameters of the student are a teacher's, and so frozen.
            HeadstartError: All of the student is frozen.

        Example:
            >>> model = nn.Linear(2, 3)
            >>> WaitingDistiller(model, {}).check_student(nn.Sequential(model))
            Traceback (most recent call last):
            ...
            headstart.errors.TeacherError: teacher 'Linear' is the student itself, which that freezes; load it once
            more, or make the teacher of copy.deepcopy(model)
        """
        own = set(student.parameters())
        for teacher in self.pool.live:
            if own and own <= set(teacher.module.parameters()):
                raise TeacherError(
                    f"teacher {teacher.name!r} is the student itself, which that freezes; load it once more, or make "
                    "the teacher of copy.deepcopy(model)"
                )
        refuse_shared(self.pool.live, own, "the student")
        if own and not any(parameter.requires_grad for parameter in own):
            raise HeadstartError(
                "the student has nothing to learn: all its parameters are frozen; call requires_grad_() on those to "
                "train"
            )

    def start(self, *, total_steps: int, state: dict[str, Any] | None = None, **told: Any) -> Distiller:
        """The Distiller, where a checkpoint left it if `state` is given; `told` as above.

        Raises:
            HeadstartError: The window is so short that no step falls into it.
        """
        distiller = Distiller(self.pool, total_steps=total_steps, **{**told, **self._options})
        window = distiller.window
        if window.start < window.stop and not window.distilled_steps(total_steps):
            raise HeadstartError(
                f"the window from start={window.start} to stop={window.stop} holds none of the {total_steps} steps of "
                "this training, so that nothing would be distilled; make it longer, or train for longer"
            )
        if state is not None:
            distiller.load_state_dict(state)
        return distiller

    def rest(self) -> None:
        """Put the teachers back to where they were given, until another training asks them."""
        for teacher, device in self._places.items():
            teacher.to(device)


def _places(pool: TeacherPool) -> dict[Teacher, torch.device]:
    first = {teacher: next(teacher.module.parameters(), None) for teacher in pool.live}
    return {teacher: tensor.device for teacher, tensor in first.items() if tensor is not None}
