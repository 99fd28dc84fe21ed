"""The forecast of seeds against the exact power of the t test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from headstart.race.statistics.cells import Cells
from headstart.race.statistics.more_seeds import more_seeds
from headstart.race.statistics.noise import Noise
from headstart.race.statistics.speedup import compare

ONE = np.array([1.0])


def _cells(quality: float, seeds: int, cost: float = 1.0) -> Cells:
    return Cells(ONE, cost * ONE, np.array([quality]), np.array([np.nan]), np.array([float(seeds)]))


def _forecast(gain: float, seeds: int, cost: float = 1.0) -> int | None:
    """Two cells at one budget, whose pooled deviation is 1."""
    baseline, arm = _cells(0.0, seeds), _cells(gain, seeds, cost)
    noise = Noise.of(np.ones(2), np.full(2, seeds - 1.0), np.full(2, seeds - 1))
    return more_seeds(baseline, arm, noise, compare(baseline, arm, noise.deviation))


def _power(gain: float, seeds: int) -> float:
    """Of the two-sided t test of two samples, by the noncentral t distribution."""
    freedom, shift = 2 * (seeds - 1), gain / np.sqrt(2 / seeds)
    edge = stats.t(freedom).ppf(0.975)
    return float(stats.nct(freedom, shift).sf(edge) + stats.nct(freedom, shift).cdf(-edge))


@pytest.mark.parametrize("gain", [1.0, -1.0, 0.5, -0.25])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_four_of_five_such_races_would_be_resolved(gain: float, seeds: int) -> None:
    more = _forecast(gain, seeds)
    assert more is not None
    assert _power(abs(gain), seeds + more) == pytest.approx(0.8, abs=0.06)


def test_no_forecast() -> None:
    assert _forecast(0.0, 3) is None, "no gain"
    assert _forecast(0.001, 3) is None, "no number of seeds worth naming"
    assert _forecast(-1.0, 3, cost=0.5) is None, "it is its time that is missing"
    assert _forecast(1.0, 3, cost=2.0) is None, "no gain at equal cost is known"
    assert _forecast(1.0, 1) is None, "the noise is not known"
