"""What else is to be known of an init, in sentences."""

from __future__ import annotations

from headstart.init.axes import Axes
from headstart.init.heads import tiled_evenly
from headstart.init.plan import is_tied
from headstart.init.roles import OF_CONTENT, OF_HEADS
from headstart.init.view import View


def notes_of(student: View, source: View, axes: Axes) -> tuple[str, ...]:
    """Where a grown student does not give the source's outputs, and what of the source is not used."""
    return (
        *_widths(student, source),
        *_depths(student, source, axes),
        *_heads(student, source),
        *_head(student, source),
    )


def _widths(student: View, source: View) -> list[str]:
    if not student.family.norms:
        return []
    shared = [axis for axis in student.sizes if axis.layer < 0 and axis.base not in (*OF_CONTENT, *OF_HEADS)]
    pairs = [(axis.base, source.sizes.get(axis, 0), student.sizes[axis]) for axis in shared]
    return [
        f"{name}: {new} is no whole multiple of {old}, so that norms see other means: outputs are not preserved"
        for name, old, new in pairs
        if old and new > old and new % old
    ]


def _depths(student: View, source: View, axes: Axes) -> list[str]:
    grown = [stack for stack in axes.layers if student.stacks[stack] > source.stacks[stack]]
    return [
        f"{stack}: {student.stacks[stack]} layers out of {source.stacks[stack]}, stacked: outputs are not preserved"
        for stack in grown
        if None not in axes.layers[stack] or source.stacks[stack] > 1
    ]


def _heads(student: View, source: View) -> list[str]:
    if student.heads is None or source.heads is None or student.heads == source.heads:
        return []
    grown = student.heads.size > source.heads.size
    if grown and not tiled_evenly(source.heads, student.heads):
        return [
            f"heads: {student.heads.size} channels out of {source.heads.size} rotate by frequencies that the source "
            "does not compute: outputs are not preserved"
        ]
    return []


def _head(student: View, source: View) -> list[str]:
    if is_tied(student) and source.side.module is not None and not is_tied(source) and student.family.tied:
        head = student.family.tied[0].replace("\\", "")
        return [f"the student's head is its embedding, the source's is not: the source's own ({head}) is not used"]
    return []
