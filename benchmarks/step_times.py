"""Ratios of step times: one process, pairs of steps interleaved in ABBA order, their median with its interval."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from headstart.experiment.calibrate import median_interval
from headstart.train.costs.clock import Clock
from results_file import Figure

Step = Callable[[], Tensor]

WARM_UP = 6  # pairs


def paired_ratios(step: Step, reference: Step, *, pairs: int, device: torch.device) -> list[float]:
    """Time of a step over that of another made right before or right after it, in turn (ABBA): drift cancels out.

    Args:
        step: What is measured.
        reference: What it is compared with.
        pairs: How many, after a warm-up that does not count.
        device: Waited for before and after each step.

    Returns:
        One ratio per pair.
    """
    ratios = []
    with no_garbage_collection():
        for index in range(-WARM_UP, pairs):
            order = (reference, step) if index % 2 == 0 else (step, reference)
            seconds = {run: _timed(run, device) for run in order}
            if index >= 0:
                ratios.append(seconds[step] / seconds[reference])
    return ratios


def median_figure(ratios: Sequence[float]) -> Figure:
    """The median, with its order-statistic 95 % interval.

    Example:
        >>> median_figure([1.0, 1.1, 1.3]).value
        1.1
    """
    low, high = median_interval(ratios)
    return Figure(value=statistics.median(ratios), low=low, high=high, n=len(ratios))


def _timed(step: Step, device: torch.device) -> float:
    clock = Clock(device)
    clock.start()
    step()
    clock.stop()
    return clock.seconds


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep collections, which hit one step of many, out of the timings."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
