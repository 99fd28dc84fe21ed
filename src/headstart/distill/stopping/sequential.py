"""A sequential test: has the mean of a noisy, drifting, autocorrelated series sunk below a bound, and stays there?

The test is Page's cumulative sum (Biometrika 41, 1954) of the log-likelihood ratio between a mean one standard
deviation below the bound and one at the bound, restarted at 0: while the mean is at the bound or above, the sum since
any one start exceeds log(1 / a) with probability a at most (Wald's inequality; for such sums over any process, Shin,
Ramdas and Rinaldo, arXiv 2203.03532). Over n values, each of which may be a start, the chance of a false alarm is n * a
at most.

The standard deviation is that of the long run, which autocorrelation makes larger than the one of single values. It
follows from the squared differences of neighbours and of next neighbours (von Neumann, 1941), which a slow drift leaves
alone, for a series in which each value depends on the one before (an AR(1) process).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_LAGS = (1, 2)
_FORGET = 1 / 100  # weight of the newest squared difference in its mean, once there are many
_MOST = 0.9  # autocorrelation that is believed
_SHIFT = 1.0  # the shift that the test is quickest for, in standard deviations of the long run
_CLIP = 3.0  # what a single value may count, in the same: it takes several, however low one is


class LongRunDeviation:
    """The standard deviation that independent values would need for their long means to vary as those of a series."""

    def __init__(self) -> None:
        self._recent: list[float] = []
        self._squares = [0.0 for _ in _LAGS]
        self._seen = 0

    def add(self, value: float) -> None:
        """Take in the next value."""
        if len(self._recent) == max(_LAGS):
            self._seen += 1
            weight = max(_FORGET, 1.0 / self._seen)
            for place, lag in enumerate(_LAGS):
                square = (value - self._recent[-lag]) ** 2 / 2
                self._squares[place] += weight * (square - self._squares[place])
        self._recent = [*self._recent, value][-max(_LAGS) :]

    @property
    def value(self) -> float:
        """It; 0 where there was no noise.

        With autocorrelation r and variance v, half of the mean squared difference is v (1 - r) of neighbours and
        v (1 - r^2) of next ones, and the variance of the long run is v (1 + r) / (1 - r). A ratio of two means of few
        differences lies too low by about 2 over their number.
        """
        neighbours, next_ones = self._squares
        if neighbours <= 0.0:
            return 0.0
        r = min(_MOST, max(0.0, next_ones / neighbours - 1.0 + 2.0 / self._seen))
        return math.sqrt(neighbours * (1.0 + r)) / (1.0 - r)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"recent": list(self._recent), "squares": list(self._squares), "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self._recent, self._squares, self._seen = list(state["recent"]), list(state["squares"]), int(state["seen"])


class SunkBelow:
    """Tells when the mean of a series is surely below a bound.

    Args:
        bound: It; may be set anew before values count.
        error: Chance of a false alarm in a whole series whose mean never is below the bound.
        looks: Values of a whole series, at most.

    Example:
        >>> test = SunkBelow(0.0, error=0.01, looks=100)
        >>> [test.add(value) for value in [1.0, 2.0, 1.0, -9.0, 2.0]]  # one low value is none
        [False, False, False, False, False]
    """

    def __init__(self, bound: float, *, error: float, looks: int) -> None:
        self.bound, self._alarm = bound, math.log(looks / error)
        self._deviation = LongRunDeviation()
        self._evidence = 0.0

    def add(self, value: float, *, counts: bool = True) -> bool:
        """Take in the next value.

        Args:
            value: It.
            counts: Whether it is evidence; one that does not count tells of the noise alone.

        Returns:
            Whether the mean is surely below the bound.
        """
        if counts:
            # Before the value is known to the deviation, so that it cannot choose its own measure.
            below = (self.bound - value) / max(self._deviation.value, 1e-12)
            step = _SHIFT * (max(-_CLIP, min(_CLIP, below)) - _SHIFT / 2)
            self._evidence = max(0.0, self._evidence + step)
        self._deviation.add(value)
        return self._evidence > self._alarm

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"evidence": self._evidence, "deviation": self._deviation.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self._evidence = float(state["evidence"])
        self._deviation.load_state_dict(state["deviation"])
