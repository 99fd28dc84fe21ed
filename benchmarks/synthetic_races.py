"""Races simulated with a known answer, and judged by the code that judges real races.

A race is a baseline and an arm at the same 4 to 6 budgets. Shapes of curves, deviations between seeds and their fall
with the budget are about those of the races in results/ (`SHAPES`, `SPREADS`).

The truth is what the race would measure with endless seeds: the speed-up read from the true mean qualities at its
budgets, linear in log cost, at the baseline budget that the race chose as b_ref. Where the true curve of the arm never
gets there an interval is right if its lower end is 0, where it starts above if it is open above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.race.statistics.cells import Cells, FloatArray
from headstart.race.statistics.interval import speedup_ends
from headstart.race.statistics.noise import Noise
from headstart.race.statistics.overlap import overlap_margin, overlap_speedup
from headstart.race.statistics.speedup import compare, compare_at

Flags = NDArray[np.bool_]


class Shape(NamedTuple):
    """A baseline: its budgets, its true mean quality by cost, and the deviation of a run at the largest budget."""

    budgets: tuple[float, ...]
    quality: Callable[[FloatArray], FloatArray]
    deviation: float


class Spread(NamedTuple):
    """How seeds differ.

    Attributes:
        fall: The deviation falls as budget ** -fall ...
        floor: ... to this share of the deviation at the largest budget, which stays as given.
        shared: Correlation between arms of the same seed and budget.
        heavy: Student's t with 5 degrees of freedom instead of normal.
    """

    fall: float = 0.0
    floor: float = 0.0
    shared: float = 0.0
    heavy: bool = False


class Racer(NamedTuple):
    """An arm: how many times as fast it learns per second, its cost per budget, and quality on top in deviations."""

    speed: float
    pace: float = 1.0
    lift: float = 0.0


class Counts(NamedTuple):
    """What became of the races of one setting, booleans and widths of shape (races,).

    Attributes:
        covered: The interval of the speed-up covers the truth.
        known: It covers the speed of the arm itself, which curves read between points miss by a little; NaN where the
            arm is not only faster, or the budgets do not reach so far.
        overlap: The interval of the overlap speed-up covers its truth.
        faster: The verdict.
        slower: The verdict.
        width: The interval's upper over its lower end; infinite where one end is open.
    """

    covered: Flags
    known: FloatArray
    overlap: Flags
    faster: Flags
    slower: Flags
    width: FloatArray


def _power(best: float, scale: float, exponent: float) -> Callable[[FloatArray], FloatArray]:
    return lambda cost: best - scale * cost**-exponent


SHAPES = {
    "saturating": Shape((1.0, 2.0, 4.0, 8.0, 16.0), _power(0.9355, 0.0575, 0.9), 0.0011),
    "plateau": Shape((1.0, 2.0, 4.0, 8.0, 16.0, 32.0), lambda cost: 0.93 - 0.05 / np.minimum(cost, 8.0), 0.0011),
    "rising": Shape((0.5, 1.0, 2.0, 4.0), lambda cost: 0.65 + 0.15 * np.log2(cost) - 0.02 * np.log2(cost) ** 2, 0.004),
}
SPREADS = {
    "even": Spread(),
    "falling": Spread(fall=0.6),
    "falling-to-a-floor": Spread(fall=1.0, floor=0.7),
    "heavy-tails": Spread(fall=0.6, heavy=True),
    "shared-seeds": Spread(fall=0.6, shared=0.5),
}
ARMS = {
    "same": Racer(1.0),
    "1.3-times": Racer(1.3, pace=1.15),
    "2-times": Racer(2.0, pace=1.15),
    "higher": Racer(1.3, pace=1.15, lift=3.0),
}


def simulate(shape: Shape, spread: Spread, racer: Racer, seeds: int, races: int, rng: np.random.Generator) -> Counts:
    """Run and judge the races of one setting."""
    budget = np.array(shape.budgets)
    level = (1 - spread.floor**2) * (budget / budget[-1]) ** (-2 * spread.fall) + spread.floor**2
    deviation = shape.deviation * np.sqrt(level)
    cost = (budget, budget * racer.pace)
    truths = (shape.quality(cost[0]), shape.quality(racer.speed * cost[1]) + racer.lift * shape.deviation)
    size = (races, seeds, len(budget))
    common = _standard(rng, size, spread.heavy)
    cells, squares = [], []
    for price, truth in zip(cost, truths, strict=True):
        errors = np.sqrt(spread.shared) * common + np.sqrt(1 - spread.shared) * _standard(rng, size, spread.heavy)
        runs = truth + deviation * errors
        cells.append(_cells(budget, price, runs.mean(axis=1), seeds))
        squares.append(runs.var(axis=1) * seeds)
    freedom = np.full(2 * len(budget), seeds - 1)
    noise = Noise.of(np.concatenate([budget, budget]), np.concatenate(squares, axis=1), freedom)
    true = [_cells(budget, price, truth, seeds) for price, truth in zip(cost, truths, strict=True)]
    return _judged(cells, true, noise, racer)


def _judged(cells: Sequence[Cells], true: Sequence[Cells], noise: Noise, racer: Racer) -> Counts:
    baseline, arm = cells
    point = compare(baseline, arm, noise.deviation)
    low, high = speedup_ends(baseline, arm, noise, point)
    budgets = np.arange(len(baseline.budget))
    square = len(budgets), len(budgets)
    true_baseline, true_arm = (replace(c, quality=np.broadcast_to(c.quality, square)) for c in true)
    truth = compare_at(true_baseline, true_arm, budgets)
    least, most = truth.low[point.reference], truth.high[point.reference]
    inside = (racer.lift == 0) & (least > 0) & np.isfinite(most)
    logs, margin = overlap_speedup(baseline, arm), overlap_margin(baseline, arm, noise)
    return Counts(
        covered=(low <= most) & (high >= least),
        known=np.where(inside, (low <= racer.speed) & (high >= racer.speed), np.nan),
        overlap=~(np.abs(logs - overlap_speedup(*true)) > margin),
        faster=low > 1,
        slower=high < 1,
        width=np.where(low > 0, high / np.where(low > 0, low, 1.0), np.inf),
    )


def _standard(rng: np.random.Generator, size: tuple[int, ...], heavy: bool) -> FloatArray:
    """Errors of mean 0 and variance 1."""
    return rng.standard_t(5, size) / np.sqrt(5 / 3) if heavy else rng.standard_normal(size)


def _cells(budget: FloatArray, cost: FloatArray, quality: FloatArray, seeds: int) -> Cells:
    nothing = np.full(len(budget), np.nan)
    return Cells(budget, cost, quality, deviation=nothing, count=np.full(len(budget), float(seeds)))
