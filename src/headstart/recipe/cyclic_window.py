"""The window of a training in cycles."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.distill import Window
from headstart.recipe.cycles import cycle_at, cycle_ends


@dataclass(frozen=True)
class CyclicWindow(Window):
    """A window that opens in every cycle: its fractions are of the cycle that a step is in, not of the whole training.

    So each point of the curve stands for a training that was distilled in the same part of its schedule.
    `first_step` and `end_step` tell of a single cycle, given its steps.

    Args:
        cycles: How many cycles the training has; see `cycles.cycle_at` for their lengths.

    Example:
        >>> window = CyclicWindow(stop=0.5, cycles=2)
        >>> [window.scale(step, total_steps=12) for step in range(12)]
        [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
        >>> [window.closed(step, total_steps=12) for step in (2, 7, 8)]
        [False, False, True]
    """

    cycles: int = 1

    def closed(self, step: int, total_steps: int) -> bool:
        """Whether no step from this one on is distilled: closed in the last cycle, which is distilled if any is."""
        begin, length = cycle_at(total_steps, total_steps, self.cycles)
        return super().closed(step - begin, length)

    def scale(self, step: int, total_steps: int) -> float:
        """The factor on the weight at a step; see `Window.scale`."""
        begin, length = cycle_at(step, total_steps, self.cycles)
        return super().scale(step - begin, length)

    def distilled_steps(self, total_steps: int) -> int:
        """How many of `total_steps` steps are distilled."""
        lengths = (cycle_at(end - 1, total_steps, self.cycles)[1] for end in cycle_ends(total_steps, self.cycles))
        return sum(super(CyclicWindow, self).distilled_steps(length) for length in lengths)
