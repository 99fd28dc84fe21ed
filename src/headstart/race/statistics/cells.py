"""The runs of an arm gathered into cells, one a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

# Its mean is exact: the mean of equal numbers is that number, so that rounding never tells equal cells apart.
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from headstart.errors import RaceError
from headstart.race.statistics.costs import run_cost
from headstart.records import Calibration, Clock, RunRecord

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """One arm on one clock, as k cells; all arrays are float64 of shape (k,).

    `quality` may have leading axes: races of the same plan, judged at once by a simulation.

    Attributes:
        budget: The budgets that have at least one run.
        cost: Mean cost of the cell's runs, in the clock's unit.
        quality: Mean quality, shape (..., k), its sign turned where lower is better: here more is always better.
        deviation: Standard deviation of the quality (n - 1 in the denominator); NaN for a single run.
        count: Number of runs, n.
    """

    budget: FloatArray
    cost: FloatArray
    quality: FloatArray
    deviation: FloatArray
    count: FloatArray


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
    """The cells of one arm's runs, sorted by budget; None without runs, or where the clock does not know one's cost."""
    groups = by_budget(runs)
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


def by_cost(cells: Cells) -> Cells:
    """The same cells in the order of rising cost, in which a curve is read."""
    order = np.argsort(cells.cost, kind="stable")
    return Cells(
        budget=cells.budget[order],
        cost=cells.cost[order],
        quality=cells.quality[..., order],
        deviation=cells.deviation[order],
        count=cells.count[order],
    )


def by_budget(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The runs of each budget, from the smallest on, each by seed."""
    ordered = sorted(runs, key=lambda run: (run.budget, run.seed))
    return [list(group) for _, group in groupby(ordered, key=lambda run: run.budget)]
