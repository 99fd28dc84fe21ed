"""Exact changes to a program's text, and how many lines they are."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from real_programs.program import Edit


class Lines(NamedTuple):
    """How many lines of a program were changed, and how many added."""

    changed: int
    added: int


def edited(text: str, edits: Sequence[Edit], *, teacher: str = "", stop: str = "") -> str:
    r"""A program with the edits made.

    Raises:
        ValueError: A text does not occur, or occurs twice.

    Example:
        >>> edited("a\nb\n", [Edit("b\n", "b(TEACHER, STOP)\n")], teacher="t.pt", stop="0.5")
        "a\nb('t.pt', 0.5)\n"
    """
    for edit in edits:
        if (count := text.count(edit.before)) != 1:
            raise ValueError(
                f"the program has {count} times what is to be changed, {edit.before!r}: is it the pinned version?"
            )
        text = text.replace(edit.before, edit.after.replace("TEACHER", repr(teacher)).replace("STOP", stop))
    return text


def counted(before: str, after: str) -> Lines:
    r"""The lines that differ; one that takes another's place is changed.

    Example:
        >>> counted("a\nb\nc\n", "a\nB\nc\nd\n")
        Lines(changed=1, added=1)
    """
    old, new = before.splitlines(), after.splitlines()
    changed = added = 0
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            changed += min(i2 - i1, j2 - j1)
            added += max(0, (j2 - j1) - (i2 - i1))
    return Lines(changed, added)
