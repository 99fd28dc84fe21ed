"""Stacks of layers in a model of no known family: what is numbered in the names of its tensors."""

from __future__ import annotations

from typing import NamedTuple

from headstart.init.picking.axes import Rule
from headstart.init.picking.depth import layers
from headstart.init.picking.kinds import kinds_told
from headstart.init.side import Side

# For each number that stands at one place in the names: the tensors beneath it, by what follows the number.
_Layers = dict[int, dict[str, str]]


class _Stack(NamedTuple):
    """What is numbered at one place of both models."""

    source: _Layers
    student: _Layers


def _alike(side: Side, layers: _Layers) -> bool:
    """Layers without gaps, whose tensors have the same names and shapes in each."""
    shapes = ({rest: side.shape(name) for rest, name in layer.items()} for layer in layers.values())
    first = next(shapes)
    return sorted(layers) == list(range(len(layers))) and all(layer == first for layer in shapes)


class Stacks:
    """Where the student has more or fewer layers than the source, and what each of them comes from.

    Args:
        student: The student.
        source: The source.
        rule: How layers are chosen.

    Attributes:
        chosen: For each stack of layers that are alike, for each of the student's the source's.
        unlike: Places with another number of layers in the source, which are not alike: how many there, how many here.

    Raises:
        InitError: A number of layers is not such as `rule` takes.
    """

    def __init__(self, student: Side, source: Side, rule: Rule) -> None:
        self.chosen: dict[str, list[int]] = {}
        self.unlike: dict[str, tuple[int, int]] = {}
        self.depths: list[tuple[int, int]] = []
        self.student, self.source, self.rule = student, source, rule
        theirs = _numbered(source)
        for place, mine in _numbered(student).items():
            stack = _Stack(theirs.get(place, {}), mine)
            if stack.source and set(stack.source) != set(stack.student):
                self._add(place, stack)

    def _add(self, place: str, stack: _Stack) -> None:
        old, new = len(stack.source), len(stack.student)
        self.rule.check(f"the number of layers in {place or 'the model'}", old, new)
        self.depths.append((old, new))
        if self._alike(stack):
            found = layers(old, new, first=self.rule.first, kinds=self._kinds(stack))
            self.chosen[place] = [layer for layer in found if layer is not None]
        else:
            self.unlike[place] = (old, new)

    def _alike(self, stack: _Stack) -> bool:
        named = [{rest for layer in layers.values() for rest in layer} for layers in stack]
        return named[0] == named[1] and _alike(self.source, stack.source) and _alike(self.student, stack.student)

    def _kinds(self, stack: _Stack) -> tuple[list[str], list[str]] | None:
        """What the configurations call the kinds of layers, if these are the layers that they tell of."""
        old, new = kinds_told(self.source, len(stack.source)), kinds_told(self.student, len(stack.student))
        return None if old is None or new is None else (old, new)

    def origin(self, name: str) -> str:
        """The name that a tensor or a module of the student has in the source."""
        for place, chosen in self.chosen.items():
            before = f"{place}." if place else ""
            number, dot, rest = name.removeprefix(before).partition(".")
            if name.startswith(before) and number.isdecimal() and int(number) < len(chosen):
                return f"{before}{chosen[int(number)]}{dot}{rest}"
        return name

    def notes(self) -> list[str]:
        """Where outputs are not preserved, or layers are not evenly spaced."""
        grown = [
            f"{place or 'the model'}: {len(chosen)} layers out of {max(chosen) + 1}, stacked: outputs are not preserved"
            for place, chosen in self.chosen.items()
            if len(set(chosen)) < len(chosen)
        ]
        return grown + [
            f"{place or 'the model'}: {new} numbered parts here, {old} in the source, which are not all alike: each is "
            "taken from the one of its own number, not evenly spaced, and outputs are not preserved"
            for place, (old, new) in self.unlike.items()
        ]


def _numbered(side: Side) -> dict[str, _Layers]:
    """All places in the names of a model where numbers stand."""
    found: dict[str, _Layers] = {}
    for name in side.names:
        parts = name.split(".")
        for at, part in enumerate(parts):
            if part.isdecimal():
                layer = found.setdefault(".".join(parts[:at]), {}).setdefault(int(part), {})
                layer[".".join(parts[at + 1 :])] = name
    return found
