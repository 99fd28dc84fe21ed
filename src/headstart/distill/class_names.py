"""Which of a teacher's classes are the student's, by their names."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence

from headstart.errors import TeacherError

_log = logging.getLogger(__name__)


def class_map(
    wanted: Sequence[int | str] | None, own: Sequence[str] | None, student: Sequence[str] | None, *, name: str
) -> list[int] | None:
    """The teacher's class for each of the student's.

    Args:
        wanted: As the user says: indices or names, in the order of the student's classes; None to go by names.
        own: Names of the teacher's classes, where known.
        student: Names of the student's classes, where known.
        name: The teacher's, for messages.

    Returns:
        Indices; None where the classes are to be taken as they are: nothing is known of them, or the names are the same
        or have nothing to do with each other (a warning says so). Capitals, punctuation and spaces do not matter.

    Raises:
        TeacherError: `wanted` has another number of classes than the student, or names one that the teacher lacks; or
            names that both have stand in other places, and others do not match.

    Example:
        >>> class_map(None, ["cat", "dog", "owl"], ["owl", "cat"], name="old")
        [2, 0]
    """
    if wanted is not None:
        if student is not None and len(wanted) != len(student):
            raise TeacherError(
                f"teacher {name!r}: `classes` gives {len(wanted)} of its classes, but the student has {len(student)}; "
                "give one for each"
            )
        return [item if isinstance(item, int) else _index(item, own, name) for item in wanted]
    if own is None or student is None or list(own) == list(student):
        return None
    known, needed = (comparable([str(label) for label in labels]) for labels in (own, student))
    if known == needed:
        return None
    # A name that stands for two classes (ImageNet has two cranes) tells nothing.
    if all(known.count(label) == 1 for label in needed):
        return [known.index(label) for label in needed]
    _tell_of_strangers(own, student, known, needed, name)
    return None


def comparable(labels: Sequence[str]) -> list[str]:
    """Names without capitals, punctuation and spaces; as they are where two would become one."""
    plain = ["".join(letter for letter in label.casefold() if letter.isalnum()) for label in labels]
    return plain if len(set(plain)) == len(set(labels)) and all(plain) else list(labels)


def first_few(names: Sequence[str]) -> str:
    """Names of classes for a message, which may be of a thousand.

    Example:
        >>> first_few(["cat", "dog", "owl", "bee", "fox"])
        "'cat', 'dog', 'owl', 'bee', ..."
    """
    return ", ".join(map(repr, names[:4])) + (", ..." if len(names) > 4 else "")


def _tell_of_strangers(
    own: Sequence[str], student: Sequence[str], known: Sequence[str], needed: Sequence[str], name: str
) -> None:
    """Say that names on both sides do not match; numbers are none. `known` and `needed` are the comparable ones.

    Raises:
        TeacherError: Some do, in other places: taken as they are, these classes would be taught as others.
    """
    if any(all(str(label).isdecimal() for label in labels) for labels in (own, student)):
        return
    listed = f"its classes are {first_few(own)} and the student's {first_few(student)}"
    if any(known.index(label) != needed.index(label) for label in needed if known.count(label) == 1):
        raise TeacherError(
            f"teacher {name!r}: {listed}; some are the same, in another order, and some have no match. Say in "
            "`classes` which of its classes each of the student's is, by name or by index"
        )
    _log.warning(
        "teacher %r: %s, whose names do not match; its logits are taken in their own order. Say in `classes` which of "
        "its classes each of the student's is, if that is wrong",
        name,
        listed,
    )


def _index(label: str, own: Sequence[str] | None, name: str) -> int:
    if own is None:
        raise TeacherError(
            f"teacher {name!r}: nothing names its classes, so {label!r} is unknown; give indices instead"
        )
    places = [index for index, known in enumerate(own) if known == label]
    places = places or [index for index, known in enumerate(comparable(own)) if [known] == comparable([label])]
    if len(places) == 1:
        return places[0]
    if places:
        raise TeacherError(f"teacher {name!r}: its classes {places} are all called {label!r}; give an index instead")
    nearest = difflib.get_close_matches(label, own, n=1)
    raise TeacherError(
        f"teacher {name!r} has no class {label!r}"
        + (f"; did you mean {nearest[0]!r}?" if nearest else "; give an index")
    )
