"""The interval against closed forms, and against simulated races whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from headstart.race.statistics.cells import Cells, FloatArray
from headstart.race.statistics.interval import gain_margin, speedup_ends
from headstart.race.statistics.noise import Noise
from headstart.race.statistics.speedup import compare, compare_at

BUDGETS = np.array([1.0, 2.0, 4.0, 8.0])
RACES = 600


class Rates(NamedTuple):
    """How often the interval lies above or below the truth, and excludes 1."""

    above: float
    below: float
    faster: float
    slower: float


def _cells(quality: FloatArray, pace: float = 1.0, seeds: int = 3) -> Cells:
    return Cells(BUDGETS, pace * BUDGETS, quality, np.full(4, np.nan), np.full(4, float(seeds)))


def _rising(cost: FloatArray) -> FloatArray:
    return np.asarray(0.93 - 0.05 * cost**-0.8)


def _flat_in_the_end(cost: FloatArray) -> FloatArray:
    return np.asarray(0.93 - 0.05 / np.minimum(cost, 2.0))


def _simulate(baseline: FloatArray, arm: FloatArray, deviation: FloatArray, seeds: int, pace: float = 1.0) -> Rates:
    """Race two arms of given true qualities, over and over."""
    generator = np.random.default_rng(1)
    runs = [truth + deviation * generator.standard_normal((RACES, seeds, len(BUDGETS))) for truth in (baseline, arm)]
    base, mine = (_cells(values.mean(axis=1), price, seeds) for values, price in zip(runs, (1.0, pace), strict=True))
    squares = np.concatenate([seeds * values.var(axis=1) for values in runs], axis=1)
    noise = Noise.of(np.tile(BUDGETS, 2), squares, np.full(8, seeds - 1))
    point = compare(base, mine, noise.deviation)
    low, high = speedup_ends(base, mine, noise, point)
    endless = (replace(c, quality=np.broadcast_to(q, (4, 4))) for c, q in ((base, baseline), (mine, arm)))
    truth = compare_at(next(endless), next(endless), np.arange(4))
    above, below = low > truth.high[point.reference], high < truth.low[point.reference]
    return Rates(*(float(kind.mean()) for kind in (above, below, low > 1, high < 1)))


@pytest.mark.parametrize("fall", [0.0, 0.6])
@pytest.mark.parametrize("seeds", [2, 3])
def test_coverage(seeds: int, fall: float) -> None:
    """An arm that is 1.5 times as fast: the truth lies outside at most about one time in twenty."""
    deviation = 0.001 * (BUDGETS / 8) ** -fall
    rates = _simulate(_rising(BUDGETS), _rising(1.8 * BUDGETS), deviation, seeds, pace=1.2)
    assert rates.above + rates.below < 0.075
    assert rates.faster > 0.3


@pytest.mark.parametrize("quality", [_rising, _flat_in_the_end])
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_baseline_against_itself_is_rarely_told_apart(
    quality: Callable[[FloatArray], FloatArray], seeds: int
) -> None:
    """Also where the baseline's best is one of several equal budgets, of which b_ref has been lucky."""
    rates = _simulate(quality(BUDGETS), quality(BUDGETS), np.full(4, 0.001), seeds)
    assert rates.faster + rates.slower < 0.075


def test_a_much_slower_arm_is_found_slower() -> None:
    rates = _simulate(_rising(BUDGETS), _rising(0.6 * BUDGETS), np.full(4, 0.0005), seeds=3, pace=1.2)
    assert rates.slower > 0.9


def test_against_fiellers_quadratic() -> None:
    """Two points of the arm and one of the baseline, all at one budget: the ends solve (q - m)^2 = t^2 variance."""
    one = np.ones(2)
    baseline = Cells(one[:1], np.array([4.0]), np.array([0.5]), np.full(1, np.nan), np.array([3.0]))
    arm = Cells(one, np.array([1.0, 9.0]), np.array([0.3, 0.8]), np.full(2, np.nan), np.array([3.0, 3.0]))
    noise = Noise.of(one, np.array([0.004, 0.006]), np.array([3, 3]))
    low, high = speedup_ends(baseline, arm, noise, compare(baseline, arm, noise.deviation))
    squared = stats.t(6).ppf(0.975) ** 2 * (0.01 / 6) / 3
    # With f the share of the second point: (0.5 f - 0.2)^2 = squared * ((1 - f)^2 + f^2 + 1).
    shares = np.sort(np.roots([0.25 - 2 * squared, -0.2 + 2 * squared, 0.04 - 2 * squared]))
    np.testing.assert_allclose([high, low], 4 / 9**shares, rtol=2e-3)


def test_the_gain_of_one_budget_is_students_t() -> None:
    one = np.array([1.0])
    cells = Cells(one, one, np.array([0.5]), np.array([np.nan]), np.array([3.0]))
    noise = Noise.of(one, np.array([0.04]), np.array([4]))
    margin = gain_margin(cells, cells, noise, compare(cells, cells, noise.deviation))
    assert margin == pytest.approx(stats.t(4).ppf(0.975) * 0.1 * np.sqrt(2 / 3))


@pytest.mark.parametrize(
    ("above", "low", "high"),
    [(1.0, 8.0, np.inf), (-1.0, 0.0, np.nextafter(1.0, 0.0)), (0.0, 0.0, 8 / 7)],
    ids=["above from the start", "never there", "perhaps there"],
)
def test_open_ends(above: float, low: float, high: float) -> None:
    quality = np.array([0.1, 0.2, 0.3, 0.4])
    baseline, arm = _cells(quality), _cells(quality + above)
    noise = Noise.of(np.tile(BUDGETS, 2), np.full(8, 1e-5), np.full(8, 2))
    ends = speedup_ends(baseline, arm, noise, compare(baseline, arm, noise.deviation))
    assert ends[0] == low
    assert ends[1] == pytest.approx(high, rel=0.1)


def test_races_judged_at_once_and_alone_agree() -> None:
    generator = np.random.default_rng(0)
    quality = _rising(BUDGETS) + 0.001 * generator.standard_normal((2, 5, 4))
    squares = 1e-6 * generator.chisquare(2, size=(5, 8))
    noise = Noise.of(np.tile(BUDGETS, 2), squares, np.full(8, 2))
    baseline, arm = _cells(quality[0]), _cells(quality[1])
    low, high = speedup_ends(baseline, arm, noise, compare(baseline, arm, noise.deviation))
    for race in range(5):
        one = Noise.of(np.tile(BUDGETS, 2), squares[race], np.full(8, 2))
        base, mine = _cells(quality[0, race]), _cells(quality[1, race])
        alone = speedup_ends(base, mine, one, compare(base, mine, one.deviation))
        np.testing.assert_allclose([low[race], high[race]], alone, rtol=1e-9)
