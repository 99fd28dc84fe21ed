"""The clock that counts training only."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from headstart.timing import wait_for
from headstart.train.costs.energy import EnergyMeter


class Clock:
    """Seconds of training: runs between `start` and `stop`, and waits for the device at both.

    Evaluation, checkpoints and start-up happen while it is stopped.

    Args:
        device: The device that is waited for.
        seconds: What was counted before, where a run is resumed.
        meter: Measures energy while the clock runs.

    Example:
        >>> clock = Clock(torch.device("cpu"), seconds=2.0)
        >>> clock.start(); clock.stop(); clock.seconds >= 2.0
        True
    """

    def __init__(self, device: torch.device, seconds: float = 0.0, meter: EnergyMeter | None = None) -> None:
        self._device = device
        self._meter = meter
        self._before = seconds
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds counted so far; does not wait for the device."""
        return self._before + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def start(self) -> None:
        """Count from now on."""
        wait_for(self._device)
        if self._meter is not None:
            self._meter.start()
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Count no more."""
        wait_for(self._device)
        self._before, self._since = self.seconds, None
        if self._meter is not None:
            self._meter.stop()


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes, the device's work included.

    Example:
        >>> timed(lambda: torch.ones(2), torch.device("cpu")) >= 0.0
        True
    """
    clock = Clock(device)
    clock.start()
    function()
    clock.stop()
    return clock.seconds
