"""What of the source each tensor of the student takes, decided before any weight is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from headstart.errors import InitError
from headstart.init.filling.observe import Observed, observe
from headstart.init.notes import notes_of
from headstart.init.picking.axes import Axes, Rule
from headstart.init.picking.by_size import BySize
from headstart.init.picking.grids import Grid
from headstart.init.plan import Take, takes_by_roles
from headstart.init.refuse import check_classes, check_rows
from headstart.init.roles import OF_CONTENT, Axis
from headstart.init.side import Side
from headstart.init.view import View, views

Forward = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class Asked:
    """What was asked for, as `init_from` has it."""

    rule: Rule
    scored: bool
    compensate: bool
    batches: list[Any] | None
    forward: Forward
    rows: Mapping[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """What was decided.

    Args:
        takes: What each tensor of the student takes.
        chosen: The entries of each axis and stack.
        unchanged: The source has the student's shape.
        left_out: Channels or layers of the source are left out.
        notes: What else there is to know.
        moments: For `compensate`, as in `Observed`.
        ways: As in `Inherited`.
        grids: The source's grid of positions and the student's, where they differ.
    """

    takes: list[Take]
    chosen: dict[str, tuple[int, ...]]
    unchanged: bool
    left_out: bool
    notes: tuple[str, ...] = ()
    moments: Mapping[str, Tensor] = field(default_factory=dict)
    ways: tuple[str, ...] = ()
    grids: tuple[Grid, Grid] | None = None


def planned(student: Side, source: Side, asked: Asked) -> Plan:
    """Decide, by the table of the family that both are of, or else by sizes.

    Raises:
        InitError: As `init_from` does.
    """
    seen = views(student, source)
    if seen is not None:
        return _by_roles(*seen, asked)
    if asked.scored or asked.compensate:
        raise InitError(
            "scores='activation' and compensate need to know which layers read what, and the student is of no family "
            "whose roles are known; take scores='spaced' without compensate"
        )
    check_rows(asked.rows, set(), student)
    by_size = BySize(student, source, asked.rule, asked.rows)
    takes = by_size.takes()
    left_out = any(source > student for source, student in by_size.picks)
    return Plan(takes, by_size.chosen(), not by_size.picks, left_out, by_size.notes(), ways=by_size.ways())


def _by_roles(student: View, source: View, asked: Asked) -> Plan:
    content = {axis.base for axis in student.sizes if axis.base in OF_CONTENT}
    check_rows(asked.rows, content, student.side)
    of_classes = [name for name, place in student.places.items() if place.roles[0].axes == (Axis("classes"),)]
    check_classes(student.side, source.side, asked.rows, of_classes)
    # Once without scores, so that what is refused is refused before the source has to work.
    axes = Axes(student, source, asked.rule, asked.rows)
    axes.all_the_same()
    seen = Observed()
    if asked.scored or asked.compensate:
        seen = observe(source, asked.batches or [], asked.forward, scores=asked.scored, moments=asked.compensate)
        axes = Axes(student, source, replace(asked.rule, scores=seen.scores), asked.rows)
    takes = takes_by_roles(student, source, axes, asked.rows)
    left_out = any(student.sizes[axis] < source.sizes.get(axis, 0) for axis in student.sizes) or any(
        student.stacks[stack] != source.stacks.get(stack) for stack in student.stacks
    )
    unchanged = axes.all_the_same() and student.stacks == source.stacks
    return Plan(
        takes,
        axes.chosen(),
        unchanged,
        left_out,
        (*notes_of(student, source, axes, takes), *_without_effect(axes, asked)),
        seen.moments,
        axes.ways(),
        axes.grids,
    )


def _without_effect(axes: Axes, asked: Asked) -> list[str]:
    """Options that choose among units, where only layers are left out."""
    given = [name for name, on in (("scores", asked.scored), ("compensate", asked.compensate)) if on]
    if not given or axes.cuts_units():
        return []
    return [f"{' and '.join(given)} changed nothing: no units are left out, and layers are strided whatever they score"]
