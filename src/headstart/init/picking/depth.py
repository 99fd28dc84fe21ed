"""Which layer of the source each layer of the student comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from headstart.init.picking.picks import evenly


def layers(
    source: int,
    student: int,
    *,
    first: bool = False,
    special: bool = False,
    bare: bool = False,
    kinds: tuple[Sequence[str], Sequence[str]] | None = None,
) -> list[int | None]:
    """A layer of the source for each layer of the student.

    Fewer layers are strided from the first to the last, as DistilBERT's were; more are the stack repeated (G_stack,
    arXiv 2405.15319).

    Args:
        source: Layers of the source.
        student: Layers of the student.
        first: The first ones, rather than strided.
        special: The first layer is like no other (it changes shapes): it is kept, and no other layer comes from it.
            None stands for a layer that has none like it.
        bare: The first layer lacks a part that all others have: no other comes from it, where there is a choice.
        kinds: Kinds of layers (attention over all or over a window), the source's and the student's: those of the
            right kind are preferred where layers are left out, and repeated where there are more.

    Example:
        >>> layers(12, 6), layers(2, 4), layers(3, 5, special=True), layers(1, 2, special=True)
        ([0, 2, 4, 7, 9, 11], [0, 1, 0, 1], [0, 1, 2, 1, 2], [0, None])
        >>> layers(4, 2, kinds=(["all", "window", "window", "all"], ["all", "window"]))
        [0, 2]
        >>> layers(2, 4, kinds=(["all", "window"], ["all", "window", "window", "all"]))
        [0, 1, 1, 0]
    """
    if student == source or (first and student < source):
        return list(range(student))
    if student > source:
        if special:
            return [0, *(1 + layer % (source - 1) if source > 1 else None for layer in range(student - 1))]
        return list(_stacked(source, student, bare, kinds))
    if kinds is None or len({*kinds[0], *kinds[1]}) == 1:
        return list(evenly(source, student).tolist())
    return list(_of_kind(*kinds, student))


def _stacked(source: int, student: int, bare: bool, kinds: tuple[Sequence[str], Sequence[str]] | None) -> Iterator[int]:
    """The stack repeated, each kind of layers by itself; a kind that the source lacks comes from any layer."""
    has, wants = kinds or ([""] * source, [""] * student)
    turns: Counter[str] = Counter()
    for layer, kind in enumerate(wants):
        own = [place for place in range(source) if has[place] == kind]
        turn = turns[kind] if own else layer
        turns[kind] += 1
        own = own or list(range(source))
        again = [place for place in own if place or not bare] or own
        yield own[turn] if turn < len(own) else again[(turn - len(own)) % len(again)]


def _of_kind(source: Sequence[str], student: Sequence[str], count: int) -> list[int]:
    """Layers in order, with as few of the wrong kind as can be, then as near to an even stride as can be."""
    step = (len(source) - 1) / max(count - 1, 1)
    best: dict[int, tuple[float, list[int]]] = {-1: (0.0, [])}  # by the last layer taken
    for place in range(count):
        following: dict[int, tuple[float, list[int]]] = {}
        for layer in range(len(source)):
            cost = abs(layer - place * step) + len(source) ** 2 * (source[layer] != student[place])
            before = min((taken for last, taken in best.items() if last < layer), default=None)
            if before is not None:
                following[layer] = (before[0] + cost, [*before[1], layer])
        best = following
    return min(best.values())[1]
