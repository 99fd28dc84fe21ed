"""The part of training in which distillation is on."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from headstart.errors import HeadstartError


@dataclass(frozen=True)
class Window:
    """When to distil, as fractions of the whole training: from `start` (inclusive) to `stop` (exclusive).

    Args:
        start: Fraction of training at which distillation begins, in [0, 1].
        stop: Fraction at which it ends for good, in [0, 1]; not before `start`. `start == stop` never distils.
        every: Cadence: inside the window, distil on every k-th step only, beginning with its first. The mean weight
            inside the window drops to weight / k with it.
        ramp_up: Fraction of the whole training, from `start` on, over which the weight rises linearly from 0. Inside
            the window.
        ramp_down: Fraction of the whole, up to `stop`, over which the weight falls linearly to 0. It spares SGD at a
            high learning rate the jump of the loss scale at the window's end. Inside the window.

    Raises:
        HeadstartError: A fraction outside [0, 1], start after stop, `every` below 1, or ramps longer than the window.

    Example:
        >>> window = Window(stop=0.5, every=2)
        >>> [window.scale(step, total_steps=8) for step in range(8)]
        [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """

    start: float = 0.0
    stop: float = 1.0
    every: int = 1
    ramp_up: float = 0.0
    ramp_down: float = 0.0

    def __post_init__(self) -> None:
        for name in ("start", "stop", "ramp_up", "ramp_down"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise HeadstartError(
                    f"window: {name}={value} is outside [0, 1]; give a fraction of the whole training, 0.4 for 40 %"
                )
        if self.start > self.stop:
            raise HeadstartError(f"window: start={self.start} is after stop={self.stop}; swap them or move one")
        if self.every < 1 or self.every != int(self.every):
            raise HeadstartError(f"window: every={self.every} must be a whole number of steps, 1 or more")
        if self.ramp_up + self.ramp_down > self.stop - self.start + 1e-12:
            raise HeadstartError(
                f"window: ramp_up={self.ramp_up} and ramp_down={self.ramp_down} do not fit between start={self.start} "
                f"and stop={self.stop}; both lie inside the window and are fractions of the whole training"
            )

    def first_step(self, total_steps: int) -> int:
        """The first step of the window, counted from 0."""
        return math.ceil(self.start * total_steps - 1e-9)

    def end_step(self, total_steps: int) -> int:
        """The step after the window's last."""
        return math.ceil(self.stop * total_steps - 1e-9)

    def closed(self, step: int, total_steps: int) -> bool:
        """Whether no step from this one on is distilled."""
        steps = self._steps(total_steps)
        return not steps or step > steps[-1]

    def scale(self, step: int, total_steps: int) -> float:
        """The factor on the weight at a step: 0 outside the window and off the cadence, 1 inside, ramps between.

        Args:
            step: The optimiser step, counted from 0.
            total_steps: Steps of the whole training.
        """
        steps = self._steps(total_steps)
        if step not in steps:
            return 0.0
        # The middle of a step stands for it: a ramp is then never exactly 0, which would waste a teacher's forward.
        rise = (step - steps.start + 0.5) / (self.ramp_up * total_steps) if self.ramp_up else 1.0
        fall = (steps.stop - step - 0.5) / (self.ramp_down * total_steps) if self.ramp_down else 1.0
        return min(1.0, rise, fall)

    def next_step(self, step: int, total_steps: int) -> int | None:
        """The first distilled step from this one on; None where there is none.

        Example:
            >>> window = Window(start=0.25, stop=0.75, every=3)
            >>> [window.next_step(step, total_steps=20) for step in (0, 5, 6, 14, 15)]
            [5, 5, 8, 14, None]
        """
        steps = self._steps(total_steps)
        place = bisect_left(steps, step)
        return steps[place] if place < len(steps) else None

    def distilled_steps(self, total_steps: int) -> int:
        """How many of `total_steps` steps are distilled."""
        return len(self._steps(total_steps))

    def _steps(self, total_steps: int) -> range:
        return range(self.first_step(total_steps), self.end_step(total_steps), int(self.every))
