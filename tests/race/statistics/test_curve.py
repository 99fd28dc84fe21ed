"""Curves against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from headstart.race.statistics.curve import cost_to_reach, monotone, quality_at


def test_monotone_is_the_isotonic_regression() -> None:
    generator = np.random.default_rng(0)
    for size in (1, 2, 5, 9):
        quality = np.sort(generator.normal(size=(20, size))) + generator.normal(size=(20, size))
        weight = generator.integers(1, 5, size=size).astype(float)
        expected = [isotonic_regression(row, weights=weight).x for row in quality]
        np.testing.assert_allclose(monotone(quality, weight), expected, rtol=1e-12, atol=1e-12)


def test_points_in_order_keep_their_value_exactly() -> None:
    quality = np.array([0.1, 0.1, 0.1, 0.3, 1 / 3, 0.7])
    assert monotone(quality, np.full(6, 3.0)).tolist() == quality.tolist()


def test_cost_to_reach_is_linear_in_log_cost_and_never_extrapolates() -> None:
    cost, curve = np.array([1.0, 10.0, 1000.0]), np.array([0.0, 1.0, 2.0])
    target = np.array([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0001])
    read = [cost_to_reach(cost, curve, np.array(one)) for one in target]
    assert np.allclose(read, [1, 1, 10**0.5, 10, 100, 1000, np.nan], equal_nan=True, rtol=1e-15)
    assert [float(read[k]) for k in (1, 3, 5)] == [1.0, 10.0, 1000.0]  # at a measured point, to the last bit


def test_cost_to_reach_takes_the_first_of_a_flat_stretch() -> None:
    assert cost_to_reach(np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 1.0]), np.array(1.0)) == 2.0


def test_quality_at_inverts_cost_to_reach() -> None:
    cost, curve = np.array([1.0, 3.0, 20.0]), np.array([0.2, 0.5, 0.9])
    target = np.linspace(0.2, 0.9, 15)
    at = np.array([float(cost_to_reach(cost, curve, np.array(one))) for one in target])
    read = [float(quality_at(cost, curve[None], np.array([one]))[0]) for one in at]
    assert read == pytest.approx(target.tolist())


def test_quality_at_outside_the_measured_costs() -> None:
    cost, curve = np.array([1.0, 2.0]), np.array([[0.25, 0.5]])
    before, first, last, past = (quality_at(cost, curve, np.array([at]))[0] for at in (0.9, 1 - 1e-12, 2.0, 50.0))
    assert np.isnan(before)
    assert (first, last, past) == (0.25, 0.5, 0.5)
