"""Parameters that a student shares with its teachers, which are frozen with them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from headstart.distill.pool.teacher import Teacher
from headstart.errors import TeacherError

_SHOWN = 3  # names in a message


def refuse_shared(teachers: Iterable[Teacher], parameters: Iterable[Tensor], owner: str) -> None:
    """Refuse parameters that are a teacher's as well.

    Args:
        teachers: Frozen, with what they share.
        parameters: Those that were to be trained.
        owner: Whose these are, for the message.

    Raises:
        TeacherError: Names those of them that a teacher has.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(2, 3)
        >>> refuse_shared([Teacher(model)], [model.bias], "the student")
        Traceback (most recent call last):
        ...
        headstart.errors.TeacherError: teacher 'Linear' shares bias with the student, which stay frozen with it; load it
        once more, or make the teacher of copy.deepcopy(model)
    """
    own = {key for parameter in parameters for key in _keys(parameter)}
    for teacher in teachers:
        shared = [name for name, parameter in teacher.module.named_parameters() if own & _keys(parameter)]
        if shared:
            rest = f" and {len(shared) - _SHOWN} more parameters" if len(shared) > _SHOWN else ""
            raise TeacherError(
                f"teacher {teacher.name!r} shares {', '.join(shared[:_SHOWN])}{rest} with {owner}, which stay frozen "
                "with it; load it once more, or make the teacher of copy.deepcopy(model)"
            )


def _keys(parameter: Tensor) -> set[object]:
    """What tells that two parameters are one: themselves, or the memory that they are in (`assign=True` makes two)."""
    plain = type(parameter.data) is Tensor and parameter.layout is torch.strided and not parameter.is_meta
    place = parameter.data_ptr() if plain and parameter.numel() else 0
    return {id(parameter), ("memory", parameter.device, place)} if place else {id(parameter)}


class OptimizerWatch:
    """Looks at the parameters of each optimizer before its first step.

    A loop of one's own never shows its student, but its optimizer before a weight has moved.

    Args:
        teachers: Whose parameters none may train.
    """

    def __init__(self, teachers: Iterable[Teacher]) -> None:
        known = [weakref.ref(teacher) for teacher in teachers]
        self._seen: set[int] = set()
        self._handle: RemovableHandle | None = None
        self._look = _look(known, self._seen) if known else None

    def start(self) -> None:
        """Look at the steps from now on; once only."""
        if self._look is not None:
            self._handle, self._look = register_optimizer_step_pre_hook(self._look), None
            weakref.finalize(self, self._handle.remove)

    def end(self) -> None:
        """Look no more, if a step was seen: a hook may not remove itself."""
        if self._handle is not None and self._seen:
            self._handle.remove()


def _look(teachers: Sequence[weakref.ref[Teacher]], seen: set[int]) -> Callable[..., None]:
    """A hook that does not hold the one who made it."""

    def look(optimizer: optim.Optimizer, args: Any, kwargs: Any) -> None:
        if id(optimizer) in seen:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        alive = [teacher for reference in teachers if (teacher := reference()) is not None]
        refuse_shared(alive, parameters, f"the student (parameters of {type(optimizer).__name__})")
        seen.add(id(optimizer))

    return look
