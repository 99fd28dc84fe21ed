"""Each axis of the student: which of the source's entries it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from headstart.errors import InitError
from headstart.init.families.family import Heads
from headstart.init.picking.depth import layers
from headstart.init.picking.grids import Grid, square
from headstart.init.picking.heads import pick_channels, pick_heads
from headstart.init.picking.kinds import layer_kinds
from headstart.init.picking.picks import Pick, beside, choose, matched, times, whole
from headstart.init.roles import OF_CONTENT, OF_HEADS, Axis, Dim
from headstart.init.view import View


@dataclass(frozen=True)
class Rule:
    """How entries are chosen.

    Args:
        how: "auto", "copy", "select" or "grow": which directions are allowed.
        first: Cut after the first ones, rather than evenly spaced.
        scores: What the entries of the source's axes are worth.
    """

    how: str = "auto"
    first: bool = False
    scores: Mapping[Axis, Tensor] = field(default_factory=dict)

    def check(self, axis: str, source: int, student: int) -> None:
        """Refuse a direction that is not the one asked for.

        Raises:
            InitError: It is not.
        """
        wrong = {"copy": student != source, "select": student > source, "grow": student < source}.get(self.how, False)
        if wrong:
            takes = {"copy": "a source of the same shape", "select": "a larger source", "grow": "a smaller source"}
            raise InitError(
                f"how={self.how!r} takes {takes[self.how]}, but {axis} is {source} in the source and {student} in the "
                "student; how='auto' takes for each axis the way that its sizes ask for"
            )


class Axes:
    """The picks of all axes, each made once.

    Args:
        student: The student.
        source: The source.
        rule: How entries are chosen.
        rows: Rows matched by content, by the axis that they stand on: for each of the student's the source's, or -1.
    """

    def __init__(self, student: View, source: View, rule: Rule, rows: Mapping[str, Tensor]) -> None:
        self.student, self.source, self.rule, self.rows = student, source, rule, rows
        self.layers = {stack: self._layers(stack) for stack in student.stacks if stack in source.stacks}
        self._picks: dict[Axis, Pick] = {}
        self._heads: dict[tuple[str, int], tuple[Pick, Pick]] = {}
        self.channels: dict[str, Pick] = {}
        self.grids = _grids(student, source)
        if student.heads is not None and source.heads is not None:
            self._check_heads(source.heads, student.heads)
            self.channels = pick_channels(source.heads, student.heads, first=rule.first)

    def of(self, axis: Axis) -> Pick | None:
        """The entries of an axis; None: the source has no such axis."""
        if axis not in self._picks:
            found = self._heads_pick(axis) if axis.base in OF_HEADS else self._pick(axis)
            if found is None:
                return None
            self._picks[axis] = found
        return self._picks[axis]

    def dim(self, dim: Dim, size: int) -> Pick | None:
        """The entries of a dimension; None: the source has no such axis."""
        if not dim.axes:
            return whole(size)
        picks = [self.of(axis) for axis in dim.axes]
        return None if any(pick is None for pick in picks) else beside([pick for pick in picks if pick is not None])

    def all_the_same(self) -> bool:
        """No axis is cut or tiled, so that also tensors whose roles are not known mean the same."""
        return all(pick is not None and pick.same for pick in map(self.of, self._resized()))

    def ways(self) -> tuple[str, ...]:
        """What the sizes asked for, as `Inherited.ways`."""
        depths = [(self.source.stacks[stack], self.student.stacks[stack]) for stack in self.layers]
        return ways_of(
            self.cuts_units() or any(old > new for old, new in depths),
            "tiled" in self._kinds() or any(old < new for old, new in depths),
        )

    def cuts_units(self) -> bool:
        """Entries of some axis are left out, and not only whole layers."""
        return "selected" in self._kinds()

    def _kinds(self) -> set[str]:
        return {word for axis in self._resized() if (pick := self.of(axis)) is not None for word in pick.what.split()}

    def chosen(self) -> dict[str, tuple[int, ...]]:
        """The entries of every axis and stack that the student has, by names for people."""
        found: dict[str, tuple[int, ...]] = {}
        for axis in self._resized():
            pick = self.of(axis)
            if pick is not None and axis.base not in OF_HEADS:
                found[_label(axis)] = tuple(pick.index.tolist())
        for (stack, layer), (groups, queries) in self._heads.items():
            found[f"heads[{layer}]" if stack else "heads"] = tuple(queries.index.tolist())
            found[f"key_value_heads[{layer}]"] = tuple(groups.index.tolist())
        if self.channels:
            found["head_channels"] = tuple(self.channels["value"].index.tolist())
            found["rotated_channels"] = tuple(self.channels["key"].index.tolist())
        for stack, chosen in self.layers.items():
            found[stack] = tuple(-1 if layer is None else layer for layer in chosen)
        return _collapsed(found)

    def _resized(self) -> Iterable[Axis]:
        places = self.student.places.values()
        axes = dict.fromkeys(axis for place in places for dim in place.roles for axis in dim.axes)
        return [axis for axis in axes if axis.base not in OF_CONTENT]

    def kinds(self, stack: str) -> tuple[list[str], list[str]] | None:
        """The kinds of a stack's layers, the source's and the student's; None: one of them is not known."""
        old, new = (layer_kinds(view.side, view.stacks[stack]) for view in (self.source, self.student))
        return None if old is None or new is None else (old, new)

    def _layers(self, stack: str) -> list[int | None]:
        source, student = self.source.stacks[stack], self.student.stacks[stack]
        self.rule.check(f"the number of {stack}", source, student)
        family, kinds = self.student.family, self.kinds(stack)
        special, bare = family.first_is_special, family.first_is_bare
        return layers(source, student, first=self.rule.first, special=special, bare=bare, kinds=kinds)

    def _from(self, axis: Axis) -> Axis | None:
        """The axis of the source that one of the student comes from."""
        if axis.layer < 0:
            return axis
        layer = self.layers[axis.stack][axis.layer] if axis.stack in self.layers else None
        return None if layer is None else Axis(axis.base, axis.stack, layer)

    def _pick(self, axis: Axis) -> Pick | None:
        origin = self._from(axis)
        if origin not in self.source.sizes or axis not in self.student.sizes:
            return None
        assert origin is not None
        source, student = self.source.sizes[origin], self.student.sizes[axis]
        if axis.base in OF_CONTENT:
            return self._content(axis, source, student)
        self.rule.check(_label(axis), source, student)
        if axis.base in self.student.joins.nested:
            return self._nested(axis, source, student)
        return choose(source, student, first=self.rule.first, scores=self.rule.scores.get(origin))

    def _content(self, axis: Axis, source: int, student: int) -> Pick:
        if axis.base in self.rows:
            return matched(axis.base, self.rows[axis.base], student, source)
        if axis.base == "grid" and self.grids is not None and self.grids[0] != self.grids[1]:
            fits = self.grids[0].before == self.grids[1].before
            return Pick(torch.arange(student) if fits else torch.full((student,), -1), source, "resampled")
        if source == student:
            return whole(source)
        index = torch.arange(student) if axis.base in ("positions", "types") else torch.full((student,), -1)
        return Pick(index.where(index < source, torch.tensor(-1)), source, "matched")

    def _nested(self, axis: Axis, source: int, student: int) -> Pick | None:
        """An axis with another one in its middle: this one's entries, and more on both sides."""
        inner = self.of(Axis(self.student.joins.nested[axis.base]))
        if inner is None:
            return None
        scores = self.rule.scores.get(axis)
        begin, new = (source - inner.size) // 2, (student - len(inner.index)) // 2
        end, new_end = source - inner.size - begin, student - len(inner.index) - new
        if (begin == 0 < new) or (end == 0 < new_end):
            raise InitError(f"{_label(axis)}: the source adds too few channels at its shortcut to grow more of them")
        front, back = (
            choose(old, now, first=self.rule.first, scores=None if scores is None else scores[start : start + old])
            for old, now, start in ((begin, new, 0), (end, new_end, begin + inner.size))
        )
        return beside([front, inner, back])

    def _check_heads(self, source: Heads, student: Heads) -> None:
        self.rule.check("the number of attention heads", source.count, student.count)
        self.rule.check("the number of key and value heads", source.groups, student.groups)
        self.rule.check("the size of a head", source.size, student.size)

    def _heads_pick(self, axis: Axis) -> Pick | None:
        """Heads and the channels of each, as one axis; channels alone where a norm acts inside a head."""
        origin = self._from(axis)
        if not self.channels or origin is None:
            return None
        assert self.student.heads is not None
        query = self.channels["query"]
        if axis.base in ("query_norm", "key_norm"):
            return query if axis.base == "query_norm" else self.channels["key"]
        groups, queries = self._of_layer(axis, origin)
        if axis.base == "query":
            # Where queries are normalised, a scale before the norm would be lost: its weight has it.
            return times(queries, Pick(query.index, query.size, query.what) if self.student.heads.normed else query)
        if axis.base == "attended":
            return times(queries, self.channels["value"])
        return times(groups, self.channels[axis.base])

    def _of_layer(self, axis: Axis, origin: Axis) -> tuple[Pick, Pick]:
        key = (axis.stack, axis.layer)
        if key not in self._heads:
            assert self.source.heads is not None and self.student.heads is not None
            scores = self.rule.scores.get(Axis("attended", origin.stack, origin.layer))
            if scores is not None:
                scores = scores.reshape(self.source.heads.count, -1).norm(dim=1)
            self._heads[key] = pick_heads(self.source.heads, self.student.heads, first=self.rule.first, scores=scores)
        return self._heads[key]


def ways_of(cut: bool, grown: bool) -> tuple[str, ...]:
    """In the words of the option `how`."""
    return tuple(way for way, done in (("select", cut), ("grow", grown)) if done) or ("copy",)


def _grids(student: View, source: View) -> tuple[Grid, Grid] | None:
    """How the source's positions lie, and the student's; None: they have no grid, or it is not known."""
    axis = Axis("grid")
    if axis not in student.sizes or axis not in source.sizes:
        return None
    new = student.family.grid(student.side, student.sizes[axis])
    old = source.family.grid(source.side, source.sizes[axis])
    if new is None:
        return None
    old = old or square(source.sizes[axis], new.before)
    return None if old is None else (old, new)


def _label(axis: Axis) -> str:
    if axis.layer < 0:
        return axis.base
    return f"{axis.base}[{axis.layer}]"


def _collapsed(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """One entry for an axis that is the same in every layer."""
    groups: dict[str, set[tuple[int, ...]]] = {}
    for name, index in found.items():
        groups.setdefault(name.partition("[")[0], set()).add(index)
    return {
        (name.partition("[")[0] if len(groups[name.partition("[")[0]]) == 1 else name): index
        for name, index in found.items()
    }
