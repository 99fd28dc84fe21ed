"""The sequential test on series whose mean is known: false alarms, alarms, and what a single value can do."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headstart.distill.stopping.sequential import LongRunDeviation, SunkBelow

LOOKS, ERROR = 400, 0.05


def series(noise: np.random.Generator, *, correlation: float = 0.0, length: int = LOOKS) -> np.ndarray:
    """Autoregressive noise of variance 1."""
    shocks = noise.normal(size=length) * np.sqrt(1 - correlation**2)
    values = [noise.normal()]
    for shock in shocks[1:]:
        values.append(correlation * values[-1] + shock)
    return np.array(values)


def alarm(values: np.ndarray, *, silent: int = 20) -> int | None:
    """The place of the alarm, after some values that only tell of the noise."""
    test = SunkBelow(0.0, error=ERROR, looks=LOOKS)
    return next((i for i, value in enumerate(values) if test.add(float(value), counts=i >= silent)), None)


@pytest.mark.parametrize(("correlation", "most"), [(0.0, ERROR), (0.3, ERROR), (0.5, 1.5 * ERROR)])
def test_a_mean_at_the_bound_is_seldom_taken_to_be_below(correlation: float, most: float) -> None:
    """With much autocorrelation the error is somewhat larger than it says, as that has to be estimated, too."""
    noise = np.random.default_rng(0)
    false = [alarm(series(noise, correlation=correlation)) is not None for _ in range(300)]
    assert np.mean(false) <= most


def test_a_mean_that_falls_to_the_bound_is_none_below_it() -> None:
    noise = np.random.default_rng(1)
    trend = 8.0 * np.exp(-np.arange(LOOKS) / 60)
    assert np.mean([alarm(trend + series(noise)) is not None for _ in range(200)]) <= ERROR


@pytest.mark.parametrize(("shift", "within"), [(3.0, 10), (2.0, 14), (1.0, 50)])
def test_a_mean_below_is_found_soon(shift: float, within: int) -> None:
    noise = np.random.default_rng(2)
    trend = np.where(np.arange(LOOKS) < 100, 2.0, -shift)
    found = [alarm(trend + series(noise)) for _ in range(100)]
    assert all(place is not None and place > 100 for place in found)
    assert np.median([place for place in found if place is not None]) <= 100 + within


def test_units_do_not_matter() -> None:
    values = series(np.random.default_rng(3)) - 1.0
    assert alarm(values) == alarm(1e-3 * values) is not None


@pytest.mark.parametrize("value", [-1e9, -50.0])
def test_a_single_value_is_no_alarm_however_low(value: float) -> None:
    values = 1.0 + 0.1 * series(np.random.default_rng(4))
    values[50::40] = value
    assert alarm(values) is None


def test_a_series_without_noise() -> None:
    assert alarm(np.full(LOOKS, 1.0)) is None
    assert alarm(np.full(LOOKS, -1.0)) is not None


def test_values_that_do_not_count_are_no_evidence() -> None:
    test = SunkBelow(0.0, error=ERROR, looks=LOOKS)
    assert not any(test.add(value - 5.0, counts=False) for value in series(np.random.default_rng(5)))


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_deviation_is_that_of_long_means(correlation: float) -> None:
    """For an autoregressive series the variance of a long sum is larger by (1 + r) / (1 - r)."""
    noise, found = np.random.default_rng(6), []
    for _ in range(50):
        deviation = LongRunDeviation()
        for value in series(noise, correlation=correlation):
            deviation.add(float(value))
        found.append(deviation.value)
    expected = np.sqrt((1 + correlation) / (1 - correlation))
    assert 0.8 * expected < np.median(found) < 1.25 * expected


def test_goes_on_where_it_was() -> None:
    values = series(np.random.default_rng(7)) - 0.4
    expected = alarm(values)
    assert expected is not None and expected > 25
    for cut in (3, 21, expected - 1):
        before, after = (SunkBelow(0.0, error=ERROR, looks=LOOKS) for _ in range(2))
        for i, value in enumerate(values[:cut]):
            assert not before.add(float(value), counts=i >= 20)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        found = [after.add(float(value), counts=i >= 20) for i, value in enumerate(values) if i >= cut]
        assert found.index(True) == expected - cut
