"""The speed-up at the baseline's best, and the gain at equal cost, as measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.race.statistics.cells import Cells, FloatArray
from headstart.race.statistics.curve import cost_to_reach, monotone, quality_at


@dataclass(frozen=True)
class Comparison:
    """An arm against the baseline; all arrays have the leading axes of the cells' qualities, none for one race.

    Attributes:
        reference: Index of b_ref among the baseline's budgets.
        target: q*, with the sign turned so that more is better.
        curve: The arm's mean qualities made monotone, shape (..., m), in the order of rising cost.
        baseline_cost: The baseline's cost at b_ref.
        arm_cost: The arm's cost when it reaches q*; its smallest cost where it starts above; NaN where it never does.
        at_least: Whether the arm is above q* at its smallest cost already.
        low: The speed-up, or what it is at least: 0 where the arm never reaches q*.
        high: The speed-up, or what it is at most: infinite for `at_least`; where the arm never reaches q*, just below
            the speed-up it would have by reaching it at its largest cost.
        gain: Quality over q* that the arm has at `baseline_cost`; NaN where its smallest cost is above that.
    """

    reference: NDArray[np.intp]
    target: FloatArray
    curve: FloatArray
    baseline_cost: FloatArray
    arm_cost: FloatArray
    at_least: NDArray[np.bool_]
    low: FloatArray
    high: FloatArray
    gain: FloatArray


def compare(baseline: Cells, arm: Cells, deviation: FloatArray) -> Comparison:
    """Compare an arm with the baseline.

    b_ref is the smallest baseline budget whose mean quality is within one pooled standard error (of the mean of the
    best cell: pooled deviation / sqrt(n)) of the best in the grid; q* is the baseline's mean quality there. The arm's
    cost to q* is read from its mean curve, made monotone, linear in log cost.

    Args:
        baseline: The baseline's cells, sorted by budget.
        arm: The arm's cells, sorted by cost.
        deviation: Pooled standard deviation of one run, shape (...).
    """
    best = baseline.quality.argmax(axis=-1)
    within = baseline.quality.max(axis=-1) - deviation / np.sqrt(baseline.count[best])
    return compare_at(baseline, arm, (baseline.quality >= within[..., None]).argmax(axis=-1))


def compare_at(baseline: Cells, arm: Cells, reference: NDArray[np.intp]) -> Comparison:
    """Compare an arm with what the baseline reaches at a given one of its budgets; see `compare`.

    Args:
        baseline: The baseline's cells.
        arm: The arm's cells, sorted by cost.
        reference: Index of the baseline's budget, shape (...).
    """
    target = np.take_along_axis(baseline.quality, reference[..., None], axis=-1)[..., 0]
    baseline_cost = baseline.cost[reference]
    curve = monotone(arm.quality, arm.count)
    arm_cost = cost_to_reach(arm.cost, curve, target)
    never, at_least = np.isnan(arm_cost), curve[..., 0] > target
    speedup = baseline_cost / np.where(never, arm.cost[-1], arm_cost)
    return Comparison(
        reference=reference,
        target=target,
        curve=curve,
        baseline_cost=baseline_cost,
        arm_cost=arm_cost,
        at_least=at_least,
        low=np.where(never, 0.0, speedup),
        high=np.where(at_least, np.inf, np.where(never, np.nextafter(speedup, 0.0), speedup)),
        gain=quality_at(arm.cost, curve, baseline_cost) - target,
    )
