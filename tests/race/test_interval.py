"""The interval against simulated races whose truth is known. Modest numbers of races, so bounds are loose."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from headstart.race.cells import Cells, FloatArray, Noise
from headstart.race.interval import ends, redraw
from headstart.race.speedup import compare

BUDGETS = np.array([1.0, 2.0, 4.0, 8.0])
RACES = 200


class Rates(NamedTuple):
    """How often the interval lies above or below the truth, and excludes 1."""

    above: float
    below: float
    faster: float
    slower: float


def _cells(quality: FloatArray, pace: float, seeds: int) -> Cells:
    return Cells(BUDGETS, pace * BUDGETS, quality, np.full(4, np.nan), np.full(4, float(seeds)))


def _simulate(speed: float, pace: float, deviation: float, seeds: int, draws: int = 400) -> Rates:
    """Race an arm that learns `speed` times as fast per second, over and over."""

    def mean(budget: FloatArray, factor: float) -> FloatArray:
        quality: FloatArray = 0.93 - 0.05 * (factor * budget) ** -0.8
        return quality

    generator = np.random.default_rng(1)
    true = [_cells(mean(BUDGETS, 1.0), 1.0, seeds), _cells(mean(BUDGETS, speed * pace), pace, seeds)]
    truth = compare(true[0], true[1], true[0].quality[None], true[1].quality[None], np.array([deviation]))
    counts = np.zeros(4)
    for _ in range(RACES):
        qualities = [c.quality[:, None] + deviation * generator.standard_normal((4, seeds)) for c in true]
        pooled = np.sqrt(np.mean([quality.var(axis=1, ddof=1) for quality in qualities]))
        baseline, arm = (_cells(q.mean(axis=1), p, seeds) for q, p in zip(qualities, (1.0, pace), strict=True))
        drawn = redraw(baseline, arm, Noise(float(pooled), 8 * (seeds - 1)), draws)
        assert drawn is not None
        low, high = ends(drawn.low, drawn.high)
        low, high = -np.inf if low is None else low, np.inf if high is None else high
        counts += [low > truth.high[0], high < truth.low[0], low > 1, high < 1]
    return Rates(*(counts / RACES))


@pytest.mark.parametrize("seeds", [2, 3])
def test_coverage(seeds: int) -> None:
    """An arm that is 1.5 times as fast: the truth lies outside about one time in twenty."""
    rates = _simulate(speed=1.5, pace=1.2, deviation=0.001, seeds=seeds)
    assert rates.above + rates.below < 0.11
    assert rates.faster > 0.5


def test_the_baseline_against_itself_is_rarely_told_apart() -> None:
    rates = _simulate(speed=1.0, pace=1.0, deviation=0.001, seeds=3)
    assert rates.faster < 0.07
    assert rates.slower < 0.07


def test_a_much_slower_arm_is_found_slower() -> None:
    rates = _simulate(speed=0.7, pace=1.2, deviation=0.0005, seeds=3)
    assert rates.slower > 0.9


def test_redrawn_means_are_t_distributed() -> None:
    """The gain of an arm of one budget is a difference of two means: its interval is Student's, in closed form."""
    one = np.array([1.0])
    cells = Cells(one, one, np.array([0.5]), np.array([np.nan]), np.array([3.0]))
    drawn = redraw(cells, cells, Noise(deviation=0.1, freedom=4), draws=40_000)
    assert drawn is not None
    low, high = ends(drawn.gain, drawn.gain)
    expected = stats.t(4).ppf(0.975) * 0.1 * np.sqrt(2 / 3)
    assert low == pytest.approx(-expected, rel=0.05)
    assert high == pytest.approx(expected, rel=0.05)


def test_no_interval_without_noise_known() -> None:
    cells = _cells(BUDGETS / 10, 1.0, 1)
    assert redraw(cells, cells, Noise(deviation=0.0, freedom=0)) is None


def test_ends_on_redraws_of_the_open_kinds() -> None:
    never, some, open_above = np.zeros(5), np.full(90, 1.5), np.full(5, 3.0)
    low, high = np.concatenate([never, some, open_above]), np.concatenate([never + 0.9, some, np.full(5, np.inf)])
    assert ends(low, high) == (0.0, None)
    assert ends(low[4:96], high[4:96]) == (1.5, 1.5), "below 2.5 % they do not reach an end"
    assert ends(np.full(9, np.nan), np.full(9, np.nan)) == (None, None)
