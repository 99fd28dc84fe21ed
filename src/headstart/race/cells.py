"""The runs of an arm gathered into cells, one a budget, and the noise that all cells of a race share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

# Its mean is exact: the mean of equal numbers is that number, so that rounding never tells equal cells apart.
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from headstart.errors import RaceError
from headstart.race.costs import run_cost
from headstart.records import Calibration, Clock, RunRecord

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """One arm on one clock, as k cells, sorted by budget; all arrays are float64 of shape (k,).

    Attributes:
        budget: The budgets that have at least one run.
        cost: Mean cost of the cell's runs, in the clock's unit.
        quality: Mean quality, its sign turned where lower is better: here more is always better.
        deviation: Standard deviation of the quality (n - 1 in the denominator); NaN for a single run.
        count: Number of runs, n.
    """

    budget: FloatArray
    cost: FloatArray
    quality: FloatArray
    deviation: FloatArray
    count: FloatArray


@dataclass(frozen=True)
class Noise:
    """The spread of quality between seeds, pooled over cells.

    Attributes:
        deviation: Pooled standard deviation of one run; 0 where no cell has two runs.
        freedom: Degrees of freedom, the sum over cells of n - 1; 0 means that the noise is not known.
    """

    deviation: float
    freedom: int


def orientation(runs: Sequence[RunRecord]) -> int:
    """1 where a higher quality is better, -1 where a lower one is.

    Raises:
        RaceError: The runs do not agree on it, or on the name of the metric.
    """
    kinds = {(run.metric, run.higher_is_better) for run in runs}
    if len(kinds) > 1:
        told = "; ".join(f"{metric}, {'higher' if higher else 'lower'} is better" for metric, higher in sorted(kinds))
        raise RaceError(f"race: the runs measure different things ({told}); all runs of a race must measure the same")
    return 1 if not kinds or kinds.pop()[1] else -1


def gather(runs: Sequence[RunRecord], clock: Clock, calibration: Calibration | None, sign: int) -> Cells | None:
    """The cells of one arm's runs; None where there are no runs, or the clock does not know the cost of one."""
    groups = _by_budget(runs)
    costs = [[run_cost(run, clock, calibration) for run in group] for group in groups]
    known = [[cost for cost in cell if cost is not None] for cell in costs]
    if not groups or costs != known:
        return None
    quality = [[sign * run.quality for run in group] for group in groups]
    return Cells(
        budget=np.array([group[0].budget for group in groups]),
        cost=np.array([mean(cell) for cell in known]),
        quality=np.array([mean(cell) for cell in quality]),
        deviation=np.array([stdev(cell) if len(cell) > 1 else np.nan for cell in quality]),
        count=np.array([len(cell) for cell in quality], dtype=np.float64),
    )


def pooled_noise(runs: Sequence[RunRecord]) -> Noise:
    """The noise of a race's runs, pooled over all arm x budget cells.

    Example:
        >>> runs = [RunRecord(quality=quality, seconds=1, budget=1) for quality in (0.8, 0.9, 1.0)]
        >>> noise = pooled_noise(runs)
        >>> round(noise.deviation, 9), noise.freedom
        (0.1, 2)
    """
    squares, freedom = 0.0, 0
    for arm in sorted({run.arm for run in runs}):
        for group in _by_budget([run for run in runs if run.arm == arm]):
            middle = mean(run.quality for run in group)
            squares += sum((run.quality - middle) ** 2 for run in group)
            freedom += len(group) - 1
    return Noise(deviation=(squares / freedom) ** 0.5 if freedom else 0.0, freedom=freedom)


def _by_budget(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    ordered = sorted(runs, key=lambda run: (run.budget, run.seed))
    return [list(group) for _, group in groupby(ordered, key=lambda run: run.budget)]
