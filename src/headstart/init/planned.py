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
from headstart.init.picking.by_size import UNSEEN, BySize
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
        unseen: What nothing in the models shows, unless the outputs are compared.
        exact: The student should give the source's outputs, and the source can be asked for them.
    """

    takes: list[Take]
    chosen: dict[str, tuple[int, ...]]
    unchanged: bool
    left_out: bool
    notes: tuple[str, ...] = ()
    moments: Mapping[str, Tensor] = field(default_factory=dict)
    ways: tuple[str, ...] = ()
    grids: tuple[Grid, Grid] | None = None
    unseen: tuple[str, ...] = ()
    exact: bool = False


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
    return _by_sizes(student, source, asked)


def _by_sizes(student: Side, source: Side, asked: Asked) -> Plan:
    heads = _heads_of_classes(student)
    check_rows(asked.rows, {"classes"} if heads else set(), student)
    check_classes(student, source, asked.rows, heads)
    rows = dict(asked.rows)
    of_classes = rows.pop("classes", None)
    if of_classes is not None:
        rows = dict.fromkeys((student.names[name] for name in heads), of_classes) | rows
    by_size = BySize(student, source, asked.rule, rows, heads)
    takes = by_size.takes()
    return Plan(
        takes,
        by_size.chosen(),
        by_size.unchanged,
        by_size.left_out,
        by_size.notes(),
        ways=by_size.ways(),
        unseen=(UNSEEN,) if by_size.picks else (),
        exact=source.module is not None and by_size.exact(takes),
    )


def _heads_of_classes(student: Side) -> list[str]:
    """The tensors of the last layer that gives as many outputs as the configuration names classes."""
    names = student.setting("id2label")
    if student.module is None or not isinstance(names, Mapping):
        return []
    layers = [name for name in student.names if _gives(student, name, len(names))]
    place = layers[-1].rpartition(".")[0] if layers else ""
    return [name for name in student.names if layers and name.rpartition(".")[0] == place]


def _gives(student: Side, name: str, classes: int) -> bool:
    return isinstance(student.owner(name), nn.Linear | nn.Conv2d) and student.shape(name)[0] == classes


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
