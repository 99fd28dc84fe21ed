"""The 95 % intervals: what the noise between seeds leaves possible.

Nothing is drawn at random: a difference of cell means has Student's distribution, and the interval of a cost is the set
of costs at which the curve may be at the quality in question (the test inverted, as Fieller does for ratios of means).
The curve counts as reaching a quality for sure where it is above it by the margin of that difference there and, as
curves do not fall, everywhere after; as possibly there where it is not below it by more than the margin, there or
anywhere before.

Source: Fieller, "Some Problems in Interval Estimation" (1954).
"""

from __future__ import annotations

import numpy as np

from headstart.race.statistics.cells import Cells, FloatArray
from headstart.race.statistics.curve import cost_to_reach
from headstart.race.statistics.noise import Noise
from headstart.race.statistics.speedup import Comparison

_STEPS = 16  # positions between two points of a curve at which the margin is computed


def speedup_ends(baseline: Cells, arm: Cells, noise: Noise, point: Comparison) -> tuple[FloatArray, FloatArray]:
    """The ends of the interval of the speed-up to the baseline's quality at `point.reference`.

    That budget is taken as given: the interval is about the baseline's true mean quality there. Costs are taken as
    measured. That arms share their seeds is not used.

    Args:
        baseline: The baseline's cells.
        arm: The arm's cells, sorted by cost.
        noise: The noise of the race; its degrees of freedom must not be 0.
        point: The comparison as measured.

    Returns:
        Lower ends, 0 where the arm may never get there, and upper ends, shape (...). Where an arm even at its best is
        below, the upper end is just below the speed-up of an arm that gets there at its largest cost; where it may be
        above at its smallest cost already, it is infinite.
    """
    soonest, latest = cost_ends(arm, noise, point.curve, point.target, noise.of_means(baseline)[point.reference])
    longest = np.nextafter(point.baseline_cost / arm.cost[-1], 0.0)
    low = np.where(np.isnan(latest), 0.0, point.baseline_cost / latest)
    open_above = soonest == 0
    high = np.where(open_above, np.inf, point.baseline_cost / np.where(open_above, 1.0, soonest))
    high = np.where(np.isnan(soonest), longest, high)
    exact = noise.deviation == 0
    return np.where(exact, point.low, low), np.where(exact, point.high, high)


def cost_ends(
    cells: Cells, noise: Noise, curve: FloatArray, target: FloatArray, target_units: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The ends of the interval of the cost at which a curve reaches a quality.

    Args:
        cells: The curve's cells, sorted by cost.
        noise: The noise of the race.
        curve: Their mean qualities, made monotone, shape (..., k).
        target: The quality, shape (...).
        target_units: The variance of the target under each slope of the noise, shape (..., s); zeros for a given one.

    Returns:
        The soonest and the latest cost, shape (...). Soonest: 0 where the curve may be above at its smallest cost
        already, NaN where it surely never gets there. Latest: NaN where it may never get there.
    """
    positions = _positions(len(cells.cost))
    cost = np.exp(positions @ np.log(cells.cost))
    margin = noise.margin(noise.of_combination(positions, cells) + target_units[..., None, :])
    over = curve @ positions.T - target[..., None]
    surely = np.minimum.accumulate((over - margin)[..., ::-1], axis=-1)[..., ::-1]
    possibly = np.maximum.accumulate(over + margin, axis=-1)
    nothing = np.zeros_like(target)
    soonest = np.where(possibly[..., 0] > 0, 0.0, cost_to_reach(cost, possibly, nothing))
    return soonest, cost_to_reach(cost, surely, nothing)


def gain_margin(baseline: Cells, arm: Cells, noise: Noise, point: Comparison) -> FloatArray:
    """Half the width of the interval of the gain at equal cost, shape (...); arguments as for `speedup_ends`."""
    return noise.margin(gain_units(baseline, arm, noise, point))


def gain_units(baseline: Cells, arm: Cells, noise: Noise, point: Comparison) -> FloatArray:
    """The variance of the gain at equal cost under each slope of the noise, in its units, shape (..., s)."""
    at = np.log(point.baseline_cost)
    along = np.interp(at, np.log(arm.cost), np.arange(len(arm.cost), dtype=np.float64))
    share = np.maximum(1 - np.abs(np.arange(len(arm.cost)) - along[..., None]), 0.0)
    return noise.of_combination(share, arm) + noise.of_means(baseline)[point.reference]


def _positions(points: int) -> FloatArray:
    """The positions along a curve of k points, each as the shares of the points in it, shape (g, k)."""
    along = np.linspace(0, points - 1, (points - 1) * _STEPS + 1)
    shares: FloatArray = np.maximum(1 - np.abs(along[:, None] - np.arange(points)), 0.0)
    return shares
