"""Which batches a cache holds targets of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headstart.tasks import Batch


class BatchMaker(Protocol):
    """The part of a task that a cache needs.

    Attributes:
        samples: Number of training samples of one epoch.
    """

    samples: int

    def batch(self, step: int, size: int, *, part: int = 0, parts: int = 1) -> Batch:
        """As in `Task`: a pure function of its arguments."""
        ...  # pragma: no cover


@dataclass(frozen=True)
class Batches:
    """Batches of a training.

    Attributes:
        task: Makes them.
        steps: The optimiser steps that are distilled, in order.
        size: Samples of a step.
        parts: Micro-batches of a step. With as many as the run has, teachers see the very same batches and give the
            very same numbers.
    """

    task: BatchMaker
    steps: Sequence[int]
    size: int
    parts: int = 1

    @property
    def plan(self) -> list[tuple[int, int]]:
        """Step and part of each, in order."""
        return [(step, part) for step in self.steps for part in range(self.parts)]

    def batch(self, step: int, part: int) -> Batch:
        """One of them."""
        return self.task.batch(step, self.size, part=part, parts=self.parts)
