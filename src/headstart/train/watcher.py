"""What a race of a recipe tells while it goes on."""

from __future__ import annotations

from typing import Protocol

from headstart.race import Listener, Silent


class Watcher(Listener, Protocol):
    """A race's listener that is also told of single steps."""

    def training(self, what: str) -> None:
        """A training that is no run of the race begins: a teacher's."""
        ...

    def note(self, line: str) -> None:
        """Something that is worth a line."""
        ...

    def step(self, step: int, total_steps: int, loss: float) -> None:
        """The present training has got so far."""
        ...

    def calibration_step(self, done: int, total: int) -> None:
        """The calibration has got so far."""
        ...


class SilentWatcher(Silent):
    """Ignores everything."""

    def training(self, what: str) -> None:
        """Ignored."""

    def note(self, line: str) -> None:
        """Ignored."""

    def step(self, step: int, total_steps: int, loss: float) -> None:
        """Ignored."""

    def calibration_step(self, done: int, total: int) -> None:
        """Ignored."""
