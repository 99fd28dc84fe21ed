"""What a teacher is worth: the steps it may save, against what asking it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headstart.distill.heads.head import Head

MOST = 0.5  # of the steps: what distilling has been seen to save at most (1.96x, arXiv 2211.00683)
LEAST = 0.15  # of the steps: who may save less is ahead for so short a time that students end up behind
FEW = 100  # classes: with more, as in vocabularies, labels may be mostly noise
NOISY = 0.5  # of the labels' pull: the Brier score of the best teacher, from which on most of what labels say is noise
ENOUGH = 3.0  # times the compute of the student's training: what a teacher's training takes that is ahead to the end
ENOUGH_OF_NOISE = 2.0  # the same where labels are mostly noise, of which a teacher spares more than it lacks knowledge
MORE = 1.5  # times the labels' noise: what asking has been seen to save, as a teacher tells more than labels average to
RAREST = 4  # ask on every fourth step at least


@dataclass(frozen=True)
class Worth:
    """A teacher's expected gain per cost.

    With a fraction f of the steps that ask, and a forward that costs rho steps, a training that needs g times fewer
    steps is g / (1 + rho f) times as fast; it breaks even where the steps saved, 1 - 1 / g, are rho f / (1 + rho f).

    Attributes:
        every: On which steps of the window it is asked.
        break_even: The fraction of steps to be saved.
        saving: The fraction that may be saved.
        until: The fraction of training at which the student has caught up with it; asking on would hold it back.
        speed_up: g / (1 + rho f) with that.

    Example:
        >>> worth = worth_of(knowledge=1.0, reach=1.0, cost=1 / 3, share=0.5)
        >>> round(worth.break_even, 3), round(worth.speed_up, 2)
        (0.143, 1.71)
    """

    every: int
    break_even: float
    saving: float
    until: float = 1.0

    @property
    def speed_up(self) -> float:
        """How many times as fast training may get; below 1: slower."""
        return (1.0 - self.break_even) / (1.0 - self.saving)


def worth_of(*, knowledge: float, reach: float, cost: float, share: float, every: int = 1, until: float = 1.0) -> Worth:
    """What a teacher is worth, by a rule as simple as what is known of it allows.

    Args:
        knowledge: How much of what the best teacher knows this one does, beyond chance: a fraction.
        reach: For how much of the student's training it is ahead, at best: see `reach_of`.
        cost: Its forward, in steps of the student.
        share: Of the steps that the window has, were it to ask on each.
        every: Ask on every k-th of them at most. What may be saved is then a k-th: the others have no teacher.
        until: The fraction of them after which it is not asked any more.
    """
    every = max(every, cadence(cost))
    overhead = cost * share * until / every
    return Worth(every, overhead / (1.0 + overhead), MOST * max(0.0, knowledge) * reach / every, until)


def cadence(cost: float) -> int:
    """On every how many steps to ask, so that asking takes less than the training itself; on every fourth at least.

    A teacher is asked on every step as long as its forward is cheaper than the student's step: fewer steps of it have
    been measured to gain less than they save (docs/defaults.md).

    Example:
        >>> [cadence(cost) for cost in (0.1, 1.0, 1.5, 9.0)]
        [1, 2, 2, 4]
    """
    return min(RAREST, math.floor(cost) + 1)


def mostly_noise(head: Head, outputs: int, brier: float | None) -> bool:
    """Whether labels are mostly noise, as the next word of a text is.

    Two things have to be so, as the score of a poor teacher is its own ignorance, and not the labels' noise.

    Args:
        head: What a row is.
        outputs: How many it has: of more than 100 classes.
        brier: The best teacher's Brier score; None while it is not known: then it may be so.

    Example:
        >>> mostly_noise("classes", 30_000, 0.86), mostly_noise("classes", 1000, 0.34), mostly_noise("classes", 10, 0.6)
        (True, False, False)
    """
    return head == "classes" and outputs > FEW and (brier is None or brier >= NOISY)


def reach_of(teacher: float | None, student: float | None, *, noisy: bool = False) -> float:
    """How far a teacher stays ahead of a student, judged by the compute that went into both: a fraction.

    A student alone reaches what a model knows after about as much compute as went into that one. In our races
    (docs/defaults.md) teachers of twice the student's compute helped no more on images, those of three times did. Where
    labels are mostly noise, one of twice the compute does.

    Args:
        teacher: FLOPs of the teacher's training; None: not known, and the best is hoped for.
        student: FLOPs of the student's training.
        noisy: Whether labels are mostly noise: see `mostly_noise`.

    Example:
        >>> reach_of(3e15, 2e15), reach_of(9e15, 2e15), reach_of(3e15, 2e15, noisy=True), reach_of(None, 2e15)
        (0.5, 1.0, 0.75, 1.0)
    """
    if teacher is None or not student:
        return 1.0
    return min(1.0, teacher / student / (ENOUGH_OF_NOISE if noisy else ENOUGH))
