"""The two rules by which a window closes before its cap, fed with means over blocks of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from headstart.distill.stopping.batch_sums import cosine
from headstart.distill.stopping.sequential import SunkBelow
from headstart.distill.stopping.stopped import Reason

BLOCKS = 400  # of a whole training at most: what is measured of the steps of a block is one value of a series
ERROR = 0.01  # chance that a rule which does not hold at any time is taken to hold, in a whole training
SHARE = 0.5  # of the cosine that it began with, below which it has sunk; docs/window.md says how it was chosen
FLOOR = 0.05  # the cosine below which it has sunk wherever it began: teachers may never have pointed to the labels
_FIRST = 10  # blocks that tell where the cosine began
_LEAST = 20  # blocks, before which the noise of a series is not known well enough
_FORGET = 0.2  # weight of the newest block in the means that are told


def block_length(total_steps: int) -> int:
    """Steps of a block; one in a training of fewer steps than blocks.

    Example:
        >>> block_length(60), block_length(4000), block_length(4001)
        (1, 10, 11)
    """
    return max(1, -(-total_steps // BLOCKS))


class Block(NamedTuple):
    """What a block of steps has measured, means over its rows.

    Attributes:
        student: The student's task loss.
        teacher: The teachers', on the same rows.
        cosine: Between the gradients of both losses at the logits.
    """

    student: float
    teacher: float
    cosine: float

    @classmethod
    def of_sums(cls, sums: Sequence[float]) -> Block | None:
        """From the sums of `batch_sums`, all added up; None where no row counted or a number is no longer finite.

        Example:
            >>> Block.of_sums([2.0, 1.0, 3.0, 0.5, 1.0, 1.0])
            Block(student=0.5, teacher=1.5, cosine=0.5)
        """
        rows, student, teacher, dot, task, distill = sums
        if not rows or not all(abs(value) < float("inf") for value in sums):
            return None
        return cls(student / rows, teacher / rows, cosine(dot, task, distill))


class Judge:
    """Says after each block whether a rule is sure, and which.

    `passed`: the student's task loss is below that of the teachers, on the same rows and before the update.
    `disagreement`: the cosine between the gradients of task and distillation loss at the logits has sunk below a share
    of what it was in the beginning. How large it can be differs from task to task: the labels' own noise, which nobody
    can learn, makes the task's gradient longer, and the cosine of a perfect teacher smaller. Dividing by where it began
    takes that out. Each is a test of `SunkBelow`, with half of the chance of an error.

    Example:
        >>> judge = Judge()
        >>> [judge.add(Block(1.0 + i % 3, 1.0, 0.9), counts=True) for i in range(25)][-1] is None
        True
    """

    def __init__(self) -> None:
        self._passed = SunkBelow(0.0, error=ERROR / 2, looks=BLOCKS)
        self._apart = SunkBelow(FLOOR, error=ERROR / 2, looks=BLOCKS)
        self._seen, self._first = 0, 0.0
        self.recent: Block | None = None

    def add(self, block: Block, *, counts: bool) -> Reason | None:
        """Take in a block.

        Args:
            block: It.
            counts: Whether it may decide; one in the warm-up of the learning rate may not.
        """
        self._seen += 1
        if self._seen <= _FIRST:
            self._first += block.cosine / _FIRST
            self._apart.bound = max(FLOOR, SHARE * self._first)
        counts = counts and self._seen > _LEAST
        self.recent = block if self.recent is None else _between(self.recent, block)
        passed = self._passed.add(block.student - block.teacher, counts=counts)
        apart = self._apart.add(block.cosine, counts=counts)
        return "passed" if passed else "disagreement" if apart else None

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "seen": self._seen,
            "first": self._first,
            "recent": None if self.recent is None else list(self.recent),
            "passed": self._passed.state_dict(),
            "apart": self._apart.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self._seen, self._first = int(state["seen"]), float(state["first"])
        self._apart.bound = max(FLOOR, SHARE * self._first)
        self.recent = None if state["recent"] is None else Block(*state["recent"])
        self._passed.load_state_dict(state["passed"])
        self._apart.load_state_dict(state["apart"])


def _between(old: Block, new: Block) -> Block:
    return Block(*(before + _FORGET * (now - before) for before, now in zip(old, new, strict=True)))
