"""The curves that a report draws: quality against cost, and the speed-up at every quality that both arms reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.race.statistics.cells import Cells, FloatArray, by_cost, gather, orientation
from headstart.race.statistics.curve import cost_to_reach, monotone
from headstart.race.statistics.noise import pooled_noise
from headstart.race.statistics.overlap import speedup_at
from headstart.records import Clock, Estimate, RaceRecord


@dataclass(frozen=True)
class TradeoffCurve:
    """The tradeoff curve of one arm: k points in the order of rising cost, float64 arrays of shape (k,).

    Attributes:
        arm: The arm's name.
        budget: The budget of each point.
        cost: Mean cost, in the clock's unit (seconds or FLOPs).
        quality: Mean quality.
        deviation: Standard deviation of the quality between seeds; NaN for a single run.
        count: Number of runs behind the point.
        monotone: The mean quality made monotone (isotonic regression, weighted by `count`); speed-ups are read from it.
    """

    arm: str
    budget: FloatArray
    cost: FloatArray
    quality: FloatArray
    deviation: FloatArray
    count: FloatArray
    monotone: FloatArray


@dataclass(frozen=True)
class SpeedupCurve:
    """The speed-up of one arm over the baseline against the quality reached; float64 arrays of shape (points,).

    Attributes:
        arm: The arm's name.
        quality: Qualities that both curves reach inside their measured budgets, from the poorest to the best.
        speedup: The baseline's cost to reach that quality over the arm's.
    """

    arm: str
    quality: FloatArray
    speedup: FloatArray


def tradeoff_curves(record: RaceRecord, clock: Clock) -> dict[str, TradeoffCurve]:
    """The tradeoff curve of every arm whose runs all have a cost on the clock, by name, in the race's order.

    Args:
        record: The race.
        clock: `calibrated`, `seconds` or `flops`.

    Raises:
        RaceError: The runs do not measure the same metric.
    """
    sign = orientation(record.runs)
    curves: dict[str, TradeoffCurve] = {}
    for arm in record.arms:
        cells = gather([run for run in record.runs if run.arm == arm.name], clock, record.calibration, sign)
        if cells is not None:
            curves[arm.name] = _curve(arm.name, cells, sign)
    return curves


def speedup_against_quality(record: RaceRecord, arm: str, clock: Clock, points: int = 50) -> SpeedupCurve:
    """The speed-up of an arm over the baseline at every quality that both reach; nothing is extrapolated.

    Both mean curves are made monotone and are linear in log cost between their points.

    Args:
        record: The race.
        arm: The arm's name.
        clock: `calibrated`, `seconds` or `flops`.
        points: Number of evenly spaced qualities.

    Returns:
        The curve; without points where the two share no stretch of quality, or the clock does not know their runs.

    Raises:
        RaceError: The runs do not measure the same metric.
    """
    sign = orientation(record.runs)
    curves = tradeoff_curves(record, clock)
    if arm not in curves or record.baseline not in curves:
        return SpeedupCurve(arm, np.empty(0), np.empty(0))
    mine, theirs = curves[arm], curves[record.baseline]
    ours, base = sign * mine.monotone, sign * theirs.monotone
    lowest, highest = max(ours[0], base[0]), min(ours[-1], base[-1])
    if lowest >= highest:
        return SpeedupCurve(arm, np.empty(0), np.empty(0))
    quality = np.linspace(lowest, highest, points)
    speedup = cost_to_reach(theirs.cost, base, quality) / cost_to_reach(mine.cost, ours, quality)
    return SpeedupCurve(arm, sign * quality, speedup)


def speedup_at_quality(record: RaceRecord, arm: str, clock: Clock, quality: float) -> Estimate | None:
    """The speed-up of an arm over the baseline to a given quality, with its 95 % interval.

    Args:
        record: The race.
        arm: The arm's name.
        clock: `calibrated`, `seconds` or `flops`.
        quality: In the metric's own unit.

    Returns:
        None where the clock does not know the runs, or one of the two curves does not cross the quality inside its
        measured budgets: nothing is extrapolated. The interval's lower end is 0 where the arm may never reach it; an
        end that is None is one that the race says nothing about.

    Raises:
        RaceError: The runs do not measure the same metric.
    """
    sign = orientation(record.runs)
    theirs, mine = (
        gather([run for run in record.runs if run.arm == name], clock, record.calibration, sign)
        for name in (record.baseline, arm)
    )
    if theirs is None or mine is None:
        return None
    return speedup_at(by_cost(theirs), by_cost(mine), pooled_noise(record.runs, record.curve), sign * quality)


def _curve(name: str, cells: Cells, sign: int) -> TradeoffCurve:
    cells = by_cost(cells)
    return TradeoffCurve(
        arm=name,
        budget=cells.budget,
        cost=cells.cost,
        quality=sign * cells.quality + 0.0,  # no -0
        deviation=cells.deviation,
        count=cells.count,
        monotone=sign * monotone(cells.quality, cells.count) + 0.0,
    )
