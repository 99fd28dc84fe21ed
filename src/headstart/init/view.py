"""A model seen by its family's table: where each tensor stands, how large axes are, how deep it is."""

from __future__ import annotations

from headstart.errors import InitError
from headstart.init.families import FAMILIES
from headstart.init.families.family import Family, Heads, Joins
from headstart.init.roles import OF_HEADS, Axis, Place
from headstart.init.side import Side


class View:
    """A model of a known family.

    Args:
        side: The model.
        family: Its family.
        prefix: What stands before the names of the family's tensors.
    """

    def __init__(self, side: Side, family: Family, prefix: str) -> None:
        side.called(prefix, family.older)
        self.side, self.family = side, family
        self.joins: Joins = family.joins(side)
        found = {name: family.table.find(name, len(side.shape(name)), self.joins.aliases) for name in side.names}
        self.places: dict[str, Place] = {name: place for name, place in found.items() if place is not None}
        self.sizes = self._sizes()
        self.stacks: dict[str, int] = {}
        for place in self.places.values():
            if place.stack:
                self.stacks[place.stack] = max(self.stacks.get(place.stack, 0), place.layer + 1)
        self.heads: Heads | None = family.heads(side, self.sizes[Axis("hidden")]) if family.heads else None

    def _sizes(self) -> dict[Axis, int]:
        """How many entries each axis has that lies in a dimension alone."""
        sizes: dict[Axis, int] = {}
        for name, place in self.places.items():
            for dim, size in zip(place.roles, self.side.shape(name), strict=True):
                if len(dim.axes) == 1 and dim.axes[0].base not in OF_HEADS:
                    sizes.setdefault(dim.axes[0], size)
        return sizes


def views(student: Side, source: Side) -> tuple[View, View] | None:
    """Both models by the table of the family that they share; None: the student is of no known family.

    Raises:
        InitError: They are of different families, or one has the names of the other's, and is none of it.
    """
    family, prefix = _family(student)
    other, source_prefix = _family(source)
    for side, of in ((student, other), (source, family)):
        if of is not None and (reason := of.differs(side)) is not None:
            raise InitError(f"{side.who}: {reason}, or give a source and a student of one kind")
    if family is not None and (other is not family or not family.related(student, source)):
        raise InitError(
            f"source: unrelated to the student: the student is {_called(family, student)}, the source "
            f"{_called(other, source)}; give a source of the student's architecture"
        )
    if family is None:
        return None
    seen = View(student, family, prefix), View(source, family, source_prefix)
    if seen[0].joins != seen[1].joins:
        raise InitError(
            "source: its shortcuts join other stages than the student's do (projections in one, padding with zeros in "
            "the other); give a source with the student's kind of shortcut"
        )
    return seen


def _family(side: Side) -> tuple[Family | None, str]:
    for family in FAMILIES:
        prefix = family.prefix(side)
        if prefix is not None:
            return family, prefix
    return None, ""


def _called(family: Family | None, side: Side) -> str:
    name, kind = "of another one" if family is None else f"a {family.name}", side.setting("model_type")
    return name if kind is None or kind in name.lower() else f"{name} ({kind})"
