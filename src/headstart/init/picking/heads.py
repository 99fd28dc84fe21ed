"""Attention heads cut and grown whole, and the channels inside them where these change too."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headstart.errors import InitError
from headstart.init.families.family import Heads
from headstart.init.picking.picks import Pick, choose, kind


def pick_heads(
    source: Heads, student: Heads, *, first: bool = False, scores: Tensor | None = None
) -> tuple[Pick, Pick]:
    """Heads for keys and values, and heads for queries; these stay with the keys and values that they look at.

    Args:
        source: The source's heads.
        student: The student's.
        first: Cut after the first ones, rather than evenly spaced.
        scores: What each of the source's heads of queries is worth, `[count]`.

    Raises:
        InitError: The student has fewer groups with more heads each, or the other way round and no multiple: a head
            would have to look at keys that it does not know.

    Example:
        >>> groups, queries = pick_heads(Heads(8, 4, 16), Heads(4, 2, 16))
        >>> groups.index.tolist(), queries.index.tolist()
        ([0, 2], [0, 1, 4, 5])
    """
    old, new = source.count // source.groups, student.count // student.groups
    if student.groups > source.groups and new < old and student.groups % source.groups == 0:
        return _split(source, student, first, scores)
    if (student.groups - source.groups) * (new - old) < 0:
        raise InitError(
            f"heads cannot be kept whole: the student has {student.groups} heads of keys and values with {new} of "
            f"queries each, the source {source.groups} with {old}; give the student {old} heads of queries for each "
            "head of keys and values, or one of the two numbers of the source"
        )
    table = None if scores is None else scores.reshape(source.groups, old)
    groups = choose(source.groups, student.groups, first=first, scores=None if table is None else table.norm(dim=1))
    inside = [
        choose(old, new, first=first, scores=None if table is None else table[group]) for group in groups.index.tolist()
    ]
    index = torch.cat([pick.index + group * old for pick, group in zip(inside, groups.index.tolist(), strict=True)])
    return groups, Pick(index, source.count, kind(groups, inside[0]))


def _split(source: Heads, student: Heads, first: bool, scores: Tensor | None) -> tuple[Pick, Pick]:
    """Each group of the source becomes several, which share its heads of queries."""
    old, parts = source.count // source.groups, student.groups // source.groups
    groups = torch.arange(student.groups) // parts
    per_group = student.count // source.groups
    inside = [
        choose(old, per_group, first=first, scores=None if scores is None else scores.reshape(-1, old)[group])
        for group in range(source.groups)
    ]
    index = torch.cat([pick.index + group * old for group, pick in enumerate(inside)])
    tiled_groups = Pick(groups, source.groups, "tiled")
    return tiled_groups, Pick(index, source.count, kind(inside[0]))


def pick_channels(source: Heads, student: Heads, *, first: bool = False) -> dict[str, Pick]:
    """Channels inside a head, for "query", "key" and "value".

    A head compares its channels and divides by the root of their number: queries are scaled so that one of another
    size gives the same, a smaller one where the channels left out were zero. Rotary channels go by frequency: a pair
    takes the source's pair of the same frequency, or of the nearest.

    Args:
        source: The source's heads.
        student: The student's.
        first: Cut after the first ones, rather than evenly spaced; rotary pairs go by frequency all the same.

    Example:
        >>> channels = pick_channels(Heads(2, 2, 8, rotary=True), Heads(2, 2, 4, rotary=True))
        >>> channels["query"].index.tolist(), channels["value"].index.tolist()
        ([0, 2, 4, 6], [0, 2, 4, 6])
    """
    value = choose(source.size, student.size, first=first)
    if source.size == student.size:
        return {"query": value, "key": value, "value": value}
    key = _rotary(source, student) if source.rotary else value
    return {
        "query": Pick(key.index, key.size, key.what, _query_scale(source, student, key)),
        "key": key,
        "value": value,
    }


def _rotary(source: Heads, student: Heads) -> Pick:
    """Pair j turns by theta ** (-2 j / size): the pair of the source whose exponent is nearest."""
    ratio = source.size / student.size
    if source.theta and student.theta:
        ratio *= math.log(student.theta) / math.log(source.theta)
    pairs = torch.arange(student.size // 2)
    if _multiple(source, student):
        pairs = pairs // (student.size // source.size)
    else:
        pairs = (pairs * ratio).round().long().clamp(max=source.size // 2 - 1)
    what = "tiled" if student.size > source.size else "selected"
    return Pick(torch.cat([pairs, pairs + source.size // 2]), source.size, what)


def _query_scale(source: Heads, student: Heads, key: Pick) -> Tensor:
    root = math.sqrt(student.size / source.size)
    if student.size < source.size and student.normed:
        # Norms see no zeros any more: queries and keys both come out smaller by this root.
        return 1 / root / key.copies
    if not (source.rotary and _multiple(source, student)):
        return root / key.copies
    # Pairs whose frequency the source computes give what they gave; the others begin at zero, with keys to learn by.
    times = student.size // source.size
    exact = (torch.arange(student.size // 2) % times == 0).double().repeat(2)
    return root * exact


def _multiple(source: Heads, student: Heads) -> bool:
    return student.size > source.size and student.size % source.size == 0 and source.theta == student.theta


def tiled_evenly(source: Heads, student: Heads) -> bool:
    """All heads, and all channels of a head, are taken equally often or not at all fewer: outputs can be preserved."""
    if student.count < source.count or student.groups < source.groups or student.size < source.size:
        return False
    return student.size == source.size or not source.rotary or _multiple(source, student)
