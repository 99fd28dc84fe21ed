"""Which batches a cache holds targets of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from headstart.tasks import Batch, FewViews


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
        views: Of each sample, where these are all of them, each once, and not what some steps draw; see `all_views`.
    """

    task: BatchMaker
    steps: Sequence[int]
    size: int
    parts: int = 1
    views: int | None = None

    @property
    def samples(self) -> int:
        """Whose targets these are: epochs, or views, counted one by one."""
        drawn = len(self.steps) * self.parts * (self.size // self.parts)
        return drawn if self.views is None else min(drawn, self.task.samples)

    @property
    def plan(self) -> list[tuple[int, int]]:
        """Step and part of each, in order."""
        return [(step, part) for step in self.steps for part in range(self.parts)]

    def batch(self, step: int, part: int) -> Batch:
        """One of them."""
        return self.task.batch(step, self.size, part=part, parts=self.parts)


def all_views(task: FewViews, size: int) -> Batches:
    """Batches of every view of every training sample, each once: what any run on that data can ask for.

    Args:
        task: Whose samples have few views.
        size: Samples of a batch at most.
    """
    assert task.views is not None
    steps = range(task.views * -(-task.samples // size))
    return Batches(EachView(task), steps, size, views=task.views)


class EachView:
    """All samples in their order in one view, then in the next, whose number stands in the epoch's place.

    Args:
        task: Whose samples have few views.
    """

    def __init__(self, task: FewViews) -> None:
        self._task, self._views = task, task.views or 0
        self.samples = task.samples * self._views

    def batch(self, step: int, size: int, *, part: int = 0, parts: int = 1) -> Batch:
        """As in `Task`; a view's last batch may be smaller."""
        count = self._task.samples
        view, place = divmod(step, -(-count // size))
        return self._task.view(torch.arange(place * size, min((place + 1) * size, count)), view)

    def spread(self, count: int) -> list[Batch]:
        """Of each view some samples, evenly from the first to the last: what tells these samples from others."""
        samples = torch.linspace(0, self._task.samples - 1, min(count, self._task.samples)).round().long()
        return [self._task.view(samples, view) for view in range(self._views)]
