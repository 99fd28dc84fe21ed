"""The noise against Student's t, numerical integration and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from headstart.race.statistics.cells import Cells
from headstart.race.statistics.noise import Noise

BUDGETS = np.array([1.0, 2.0, 4.0, 8.0])


def _noise(deviations: list[float], freedom: int) -> Noise:
    squares = np.array(deviations) ** 2 * freedom
    return Noise.of(BUDGETS[: len(deviations)], squares, np.full(len(deviations), freedom))


def _cells(seeds: int) -> Cells:
    return Cells(BUDGETS, BUDGETS, np.zeros(4), np.zeros(4), np.full(4, float(seeds)))


def test_one_budget_is_students_t() -> None:
    noise = Noise.of(np.array([3.0, 3.0]), np.array([0.02, 0.04]), np.array([2, 4]))
    cells = Cells(np.array([3.0]), np.array([9.0]), np.array([0.5]), np.array([np.nan]), np.array([5.0]))
    assert noise.deviation == pytest.approx(0.1)
    assert noise.margin(noise.of_means(cells)[0]) == pytest.approx(stats.t(6).ppf(0.975) * 0.1 / math.sqrt(5))


def test_weights_against_numerical_integration() -> None:
    """The likelihood of the sums of squares, with the variance integrated out over its logarithm."""
    noise = _noise([0.03, 0.01, 0.02, 0.01], freedom=2)
    slopes = np.linspace(-4, 2, 25)
    ratios = (BUDGETS / math.exp(noise.centre))[:, None] ** slopes
    squares = np.array([0.03, 0.01, 0.02, 0.01]) ** 2 * 2

    def likelihood(log_variance: float) -> np.ndarray:
        variances = math.exp(log_variance) * ratios
        return np.asarray((stats.chi2(2).pdf(squares[:, None] / variances) / variances).prod(axis=0))

    expected = integrate.quad_vec(likelihood, math.log(1e-7), math.log(1e-1))[0]
    np.testing.assert_allclose(noise.weight, expected / expected.sum(), rtol=1e-3)


def test_margin_against_draws_of_the_mixture() -> None:
    noise = _noise([0.03, 0.02, 0.015, 0.01], freedom=4)
    units = noise.of_means(_cells(3))[3] + 0.25 * noise.of_means(_cells(3))[1]
    generator = np.random.default_rng(0)
    slope = generator.choice(len(noise.weight), size=400_000, p=noise.weight)
    errors = generator.standard_t(16, size=400_000) * np.sqrt(noise.variance * units)[slope]
    assert noise.margin(units) == pytest.approx(np.quantile(np.abs(errors), 0.95), rel=0.02)


@pytest.mark.parametrize("slope", [-1.2, 0.0, 1.0])
def test_a_slope_is_found_where_there_are_seeds_to_see_it(slope: float) -> None:
    true = 0.01 * BUDGETS ** (slope / 2)
    noise = _noise(list(true), freedom=200)
    squared, freedom = noise.spread(noise.of_means(_cells(1)))
    np.testing.assert_allclose(np.sqrt(squared), true, rtol=0.03)
    assert (freedom <= 800).all()


def test_races_of_the_same_plan_are_judged_as_one_by_one() -> None:
    squares = np.random.default_rng(0).chisquare(2, size=(5, 4))
    together = Noise.of(BUDGETS, squares, np.full(4, 2))
    units = together.of_means(_cells(3))
    margins = together.margin(np.broadcast_to(units, (5, 4, 25)))
    for one, margin in zip(squares, margins, strict=True):
        alone = Noise.of(BUDGETS, one, np.full(4, 2))
        np.testing.assert_allclose(alone.margin(units), margin)


def test_no_spread_and_none_known() -> None:
    still = _noise([0.0, 0.0], freedom=1)
    assert (float(still.deviation), still.freedom) == (0.0, 2)
    assert (still.margin(still.of_means(_cells(2))) == 0).all()
    unknown = _noise([0.0, 0.0], freedom=0)
    assert (float(unknown.deviation), unknown.freedom) == (0.0, 0)
