"""What each tensor of a student takes from the source, by the roles of its family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from headstart.init.picking.axes import Axes
from headstart.init.picking.picks import Pick, matched, whole
from headstart.init.roles import Axis, Place
from headstart.init.side import Side
from headstart.init.view import View


@dataclass(frozen=True)
class Take:
    """What one tensor of the student takes.

    Args:
        name: The student's tensor, without what stands before its family's names.
        source: The source's; None: nothing, the tensor stays fresh.
        picks: For each dimension its entries.
        divided: For each dimension whether the tensor reads it, and copies share what they give.
        reason: Why it stays fresh.
        zeroed: The tensor becomes zero, so that its block starts as the identity.
    """

    name: str
    source: str | None = None
    picks: tuple[Pick, ...] = ()
    divided: tuple[bool, ...] = ()
    reason: str = ""
    zeroed: bool = False


def takes_by_roles(student: View, source: View, axes: Axes, rows: Mapping[str, Tensor]) -> list[Take]:
    """What each tensor of the student takes; one that stands under several names comes once.

    Args:
        student: The student.
        source: The source.
        axes: The entries of all axes.
        rows: Rows matched by content for a tensor of its own, by its name.
    """
    planner = _Planner(student, source, axes, rows)
    return [planner.take(names) for names in once(student.side)]


def is_tied(view: View) -> bool:
    """The head is the embedding itself."""
    if view.family.tied is None:
        return False
    head, embedding = view.family.tied
    heads = [name for name in view.side.names if re.fullmatch(head, name)]
    names = view.side.names
    return embedding in names and any(
        view.side.tensors[names[name]] is view.side.tensors[names[embedding]] for name in heads
    )


def once(side: Side) -> list[list[str]]:
    """The names of each tensor of a module that is learnt or counted; those that are tied have several."""
    groups: dict[int, list[str]] = {}
    for name, actual in side.names.items():
        if side.is_weight(name) or name.endswith("num_batches_tracked"):
            groups.setdefault(id(side.tensors[actual]), []).append(name)
    return list(groups.values())


class _Planner:
    def __init__(self, student: View, source: View, axes: Axes, rows: Mapping[str, Tensor]) -> None:
        self.student, self.source, self.axes, self.rows = student, source, axes, rows
        self.tied = is_tied(student)
        self.unchanged = axes.all_the_same()

    def take(self, names: list[str]) -> Take:
        """The first name of a tensor that the source has; for a head also the embedding that it may be tied to."""
        tried = [self._take(name, origin) for name in names for origin in self._origins(name)]
        return next((take for take in tried if take.source or take.zeroed), tried[0] if tried else self._none(names[0]))

    def _origins(self, name: str) -> list[str]:
        origin = self._origin(name)
        tied = self.student.family.tied
        others = [tied[1]] if tied and re.fullmatch(tied[0], name) else []
        return [found for found in [origin, *others] if found is not None and found in self.source.side.names]

    def _origin(self, name: str) -> str | None:
        """The source's tensor at the place of the student's, in the layer that this comes from."""
        for stack, chosen in self.axes.layers.items():
            match = re.match(rf"({re.escape(stack)}\.)(\d+)(\..*)", name)
            if match and int(match[2]) < len(chosen):
                layer = chosen[int(match[2])]
                return None if layer is None else f"{match[1]}{layer}{match[3]}"
        return name

    def _none(self, name: str) -> Take:
        closing = self.student.family.closing
        if self._origin(name) is None:
            zeroed = closing is not None and re.fullmatch(closing, name) is not None
            return Take(
                name, reason="the source has no layer like its own, which starts as the identity", zeroed=zeroed
            )
        return Take(name, reason="the source has no such tensor")

    def _take(self, name: str, origin: str) -> Take:
        if not self.student.side.is_weight(name):
            return Take(name, origin)
        place = self.student.places.get(name)
        shape, of = self.student.side.shape(name), self.source.side.shape(origin)
        if place is None or not self._fits(place, shape, of):
            return self._unknown(name, origin, shape, of)
        picks = [self.axes.dim(dim, size) for dim, size in zip(place.roles, shape, strict=True)]
        actual = self.student.side.names[name]
        if actual in self.rows:
            picks[0] = matched(actual, self.rows[actual], shape[0], of[0])
        if any(pick is None for pick in picks):
            return Take(name, reason="the source has no such axis")
        found = tuple(pick for pick in picks if pick is not None)
        empty = next((number for number, pick in enumerate(found) if pick.fresh == len(pick.index)), None)
        if empty is not None:
            return Take(name, reason=self._unmatched(place.roles[empty].axes[0], shape[empty], of[empty]))
        divided = tuple(dim.reads or (dim.reads_if_tied and self.tied) for dim in place.roles)
        return Take(name, origin, found, divided)

    def _fits(self, place: Place, shape: tuple[int, ...], of: tuple[int, ...]) -> bool:
        """The shapes are those that the roles tell."""
        if len(shape) != len(of):
            return False
        for dim, size, old in zip(place.roles, shape, of, strict=True):
            pick = self.axes.dim(dim, size)
            if pick is not None and (len(pick.index), pick.size) != (size, old):
                return False
        return True

    def _unknown(self, name: str, origin: str, shape: tuple[int, ...], of: tuple[int, ...]) -> Take:
        """A tensor outside the table means the same where its shape is the same and no axis was cut or tiled."""
        if shape == of and self.unchanged:
            return Take(name, origin, tuple(map(whole, shape)), (False,) * len(shape))
        if shape != of:
            return Take(name, reason=f"its shape does not fit: {_by(of)} in the source")
        return Take(name, reason=f"what its dimensions are is not known of a {self.student.family.name}")

    def _unmatched(self, axis: Axis, student: int, source: int) -> str:
        if axis.base in self.axes.rows:
            return f"none of its {axis.base} is in the source"
        if axis.base == "grid":
            return f"positions: {student} here, {source} in the source, and how they lie is not known of both"
        return f"{axis.base}: {student} here, {source} in the source, and no rows were given to match them"


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single value"
