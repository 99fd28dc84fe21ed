"""The names of classes that student and teachers have in their configurations, and the order that these tell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from headstart.distill import Teacher
from headstart.distill.class_names import class_map, first_few
from headstart.distill.vocabulary import inside, tokens_of
from headstart.errors import TeacherError


def share_class_names(student: nn.Module, teachers: Iterable[Teacher], *, maps: bool) -> None:
    """Put teachers' classes into the student's order, where both name them.

    Args:
        student: A model of transformers, or another one, of which nothing is known.
        teachers: Those that have been told their classes are left as they are.
        maps: Whether the classes of logits are in the second dimension.

    Raises:
        TeacherError: Some names are the same, in other places, and others do not match; or those of maps stand in
            another order.

    Example:
        >>> share_class_names(nn.Linear(2, 3), [Teacher(nn.Linear(2, 3))], maps=False)
    """
    wanted = names_of(student)
    for teacher in teachers:
        own = names_of(teacher.module) if teacher.classes is None else None
        index = class_map(None, own, wanted, name=teacher.name) if own is not None else None
        if own is None or index is None or index == list(range(len(own))):
            continue
        if maps:
            raise TeacherError(
                f"teacher {teacher.name!r}: its classes are {first_few(own)}, the student's {first_few(wanted or [])}; "
                "of maps they have to stand in the same order: give a module that puts them into the student's"
            )
        teacher.classes = tuple(index)


def names_of(model: Any) -> list[str] | None:
    """What a model's configuration calls its classes, in their order; None where it does not, or has tokens."""
    names = getattr(getattr(inside(model), "config", None), "id2label", None)
    if not isinstance(names, dict) or not names or tokens_of(model) is not None:
        return None
    found = [str(names[index]) for index in sorted(names, key=int)]
    return None if all(name.startswith("LABEL_") for name in found) else found
