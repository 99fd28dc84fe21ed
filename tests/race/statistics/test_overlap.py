"""The speed-up at a quality and over the overlap, against closed forms and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from headstart.race.statistics.cells import Cells, FloatArray
from headstart.race.statistics.noise import Noise
from headstart.race.statistics.overlap import overlap_margin, overlap_speedup, speedup_at

BUDGETS = np.array([1.0, 2.0, 4.0, 8.0])


def _cells(quality: FloatArray, pace: float = 1.0, seeds: float = 3.0) -> Cells:
    return Cells(BUDGETS, pace * BUDGETS, quality, np.full(4, np.nan), np.full(4, seeds))


def _noise(deviation: float, freedom: int = 100, shape: tuple[int, ...] = ()) -> Noise:
    """Noise that is known well and the same at all budgets."""
    return Noise.of(np.tile(BUDGETS, 2), np.full((*shape, 8), deviation**2 * freedom), np.full(8, freedom))


def test_overlap_of_shifted_curves_in_closed_form() -> None:
    """Quality log 3x at 1.5 times the price: 2 times as fast at every quality."""
    logs = overlap_speedup(_cells(np.log(BUDGETS)), _cells(np.log(3 * BUDGETS), pace=1.5))
    assert np.exp(logs) == pytest.approx(2.0)


def test_overlap_is_the_mean_over_quality() -> None:
    """Log cost 4 q and 2 q over the same qualities: log speed-up 2 q, whose mean from 0 to 1 is 1."""
    ends = np.array([0.0, 1.0])
    slow, fast = (Cells(np.ones(2), np.exp(k * ends), ends, np.full(2, np.nan), np.ones(2)) for k in (4.0, 2.0))
    assert overlap_speedup(slow, fast) == pytest.approx(1.0)


def test_no_overlap() -> None:
    assert np.isnan(overlap_speedup(_cells(BUDGETS), _cells(BUDGETS + 100)))


def test_overlap_margin_against_redrawn_means() -> None:
    deviation = 0.02
    base, mine = np.log(BUDGETS), np.log(2 * BUDGETS)
    noise = _noise(deviation, freedom=100)
    generator = np.random.default_rng(0)
    errors = deviation / np.sqrt(3) * generator.standard_normal((2, 5000, 4))
    drawn = overlap_speedup(_cells(base + errors[0]), _cells(mine + errors[1]))
    margin = overlap_margin(_cells(base), _cells(mine), noise)
    assert margin == pytest.approx(stats.norm.ppf(0.975) * drawn.std(), rel=0.06)


def test_no_margin_where_noise_could_end_the_overlap() -> None:
    """Either mean of this arm may be below the other by noise alone; its curve would then be flat."""
    arm = Cells(BUDGETS[:2], BUDGETS[:2], np.array([1.0, 1.01]), np.full(2, np.nan), np.full(2, 3.0))
    assert np.isfinite(overlap_speedup(_cells(np.log(BUDGETS)), arm))
    assert np.isnan(overlap_margin(_cells(np.log(BUDGETS)), arm, _noise(0.1)))
    assert np.isfinite(overlap_margin(_cells(np.log(BUDGETS)), arm, _noise(0.001)))


def test_a_quality_that_both_reach() -> None:
    baseline, arm = _cells(np.log(BUDGETS)), _cells(np.log(3 * BUDGETS), pace=1.5)
    estimate = speedup_at(baseline, arm, _noise(0.001), np.log(5.0))
    assert estimate is not None
    assert estimate.value == pytest.approx(2.0)
    assert estimate.low is not None
    assert estimate.high is not None
    assert 1.95 < estimate.low < 2.0 < estimate.high < 2.05


@pytest.mark.parametrize("quality", [0.5, 2.5])
def test_nothing_is_extrapolated(quality: float) -> None:
    """The arm starts above 0.5, the baseline ends below 2.5."""
    assert speedup_at(_cells(np.log(BUDGETS)), _cells(np.log(3 * BUDGETS)), _noise(0.001), quality) is None


def test_open_ends_and_one_seed() -> None:
    base, mine = _cells(np.log(BUDGETS)), _cells(np.log(BUDGETS))
    at_the_end = speedup_at(base, mine, _noise(0.1), float(np.log(7.9)))
    assert at_the_end is not None
    assert (at_the_end.low, at_the_end.high) == (0.0, None), "neither curve is sure to get there"
    one_seed = speedup_at(base, mine, _noise(0.0, freedom=0), 1.0)
    assert one_seed is not None
    assert (one_seed.low, one_seed.high) == (None, None)


def test_coverage_at_a_quality() -> None:
    """Twice as fast, 3 seeds: outside at most about one time in twenty."""
    generator = np.random.default_rng(0)
    base, mine = np.log(BUDGETS), np.log(2 * BUDGETS)
    wrong = 0
    for _ in range(200):
        runs = [truth + 0.1 * generator.standard_normal((3, 4)) for truth in (base, mine)]
        squares = np.concatenate([3 * values.var(axis=0) for values in runs])
        noise = Noise.of(np.tile(BUDGETS, 2), squares, np.full(8, 2))
        measured = [_cells(values.mean(axis=0)) for values in runs]
        estimate = speedup_at(measured[0], measured[1], noise, 1.4)
        assert estimate is not None
        wrong += (estimate.low or 0.0) > 2.0 or (estimate.high or np.inf) < 2.0
    assert 1 <= wrong <= 18
