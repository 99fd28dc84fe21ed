"""Seconds that calls take, the device's work included."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_REPEATS = 3


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what was queued for it."""
    if device.type not in ("cpu", "meta"):
        torch.get_device_module(device).synchronize()


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes.

    Example:
        >>> seconds_of(lambda: torch.ones(2), torch.device("cpu")) >= 0.0
        True
    """
    wait_for(device)
    begin = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - begin


def quickest(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the quickest of a few calls; one before them makes what is made once."""
    return min([seconds_of(call, device) for _ in range(1 + _REPEATS)][1:])
