"""The draw of teachers: a pure function of (seed, step, rank).

No generator state means that a resumed run draws what the uninterrupted one would have drawn, that all ranks can agree
without talking to each other, and that the next draw is known ahead.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from typing import Literal

from headstart.errors import TeacherError


def uniforms(count: int, *, seed: int, step: int, rank: int = 0) -> list[float]:
    """Independent uniform numbers in (0, 1), the same for the same arguments on every machine.

    Example:
        >>> uniforms(2, seed=0, step=7) == uniforms(2, seed=0, step=7) != uniforms(2, seed=0, step=8)
        True
    """
    values = []
    for index in range(count):
        digest = hashlib.blake2b(struct.pack("<qqqq", seed, step, rank, index), digest_size=8).digest()
        # 53 bits fill a double's mantissa; the half keeps 0 and 1 out.
        values.append(((int.from_bytes(digest, "little") >> 11) + 0.5) / 2**53)
    return values


def draw(
    teachers: int,
    count: int = 1,
    *,
    weights: Sequence[float] | None = None,
    seed: int = 0,
    step: int = 0,
    rank: int = 0,
) -> tuple[int, ...]:
    """Draw `count` of `teachers` without replacement.

    Each teacher gets the key log(weight) plus Gumbel noise and the largest keys win: one teacher is drawn with
    probability proportional to its weight, and k equal ones as a uniform subset (Efraimidis and Spirakis 2006, doi
    10.1016/j.ipl.2005.11.003).

    Args:
        teachers: Size of the pool.
        count: How many to draw.
        weights: Positive, one per teacher; uniform by default.
        seed: The run's seed.
        step: The optimiser step.
        rank: The process, where ranks are to draw differently; 0 for the same draw everywhere.

    Returns:
        Indices in increasing order.

    Example:
        >>> draw(5, 5)
        (0, 1, 2, 3, 4)
    """
    if count >= teachers:
        return tuple(range(teachers))
    noise = [-math.log(-math.log(value)) for value in uniforms(teachers, seed=seed, step=step, rank=rank)]
    keys = [key + math.log(weight) for key, weight in zip(noise, weights or [1.0] * teachers, strict=True)]
    return tuple(sorted(sorted(range(teachers), key=keys.__getitem__)[-count:]))


def count_drawn(wanted: int | Literal["all"], teachers: int, *, weights: Sequence[float] | None) -> int:
    """How many teachers a step asks.

    Args:
        wanted: A number, or all.
        teachers: Size of the pool.
        weights: As in `draw`.

    Raises:
        TeacherError: The pool has not as many, or the weights do not fit it or the draw.

    Example:
        >>> count_drawn("all", 3, weights=None)
        3
    """
    count = teachers if wanted == "all" else wanted
    if not (isinstance(count, int) and 1 <= count <= teachers):
        raise TeacherError(f"draw={wanted!r} must be a number from 1 to {teachers} (the pool's size) or 'all'")
    if weights is not None and (len(weights) != teachers or not all(0 < weight < math.inf for weight in weights)):
        raise TeacherError(f"weights={list(weights)} must be {teachers} positive numbers, one per teacher")
    if weights is not None and 1 < count < teachers:
        raise TeacherError(
            f"weights with draw={count} of {teachers} would bias the mean; draw 1 or 'all', or drop the weights"
        )
    return count
