"""The window against its definition in exact fractions, step by step."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import pytest

from headstart.distill import Window
from headstart.errors import HeadstartError

TOTALS = [1, 2, 3, 7, 10, 99, 100, 128]
EDGES = [0.0, 0.001, 0.1, 0.25, 0.29, 0.3, 1 / 3, 0.5, 0.57, 0.7, 0.999, 1.0]


def _exact(value: float) -> Fraction:
    """The fraction that was meant: 1/10 for 0.1."""
    return Fraction(value).limit_denominator(10_000)


def _distilled(window: Window, total: int) -> list[int]:
    first, end = (_exact(edge) * total for edge in (window.start, window.stop))
    return [t for t in range(total) if first <= t < end][:: window.every]


@pytest.mark.parametrize("total", TOTALS)
def test_steps_are_those_of_the_definition(total: int) -> None:
    for start, stop, every in product(EDGES, EDGES, [1, 2, 3, 50]):
        if start > stop:
            continue
        window = Window(start, stop, every)
        expected = _distilled(window, total)
        assert [t for t in range(total) if window.scale(t, total) > 0] == expected, window
        assert window.distilled_steps(total) == len(expected), window
        assert [t for t in range(total) if not window.closed(t, total)] == list(range(max(expected, default=-1) + 1))


@pytest.mark.parametrize("total", [10_000_000, 2**31])
@pytest.mark.parametrize("stop", [0.07, 0.1, 0.29, 0.3, 0.57, 0.7])
def test_long_trainings_end_on_the_step_meant(stop: float, total: int) -> None:
    exact = _exact(stop) * total
    assert Window(stop=stop).distilled_steps(total) == -(-exact.numerator // exact.denominator)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(("up", "down"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.3), (0.2, 0.3), (0.25, 0.25), (0.001, 0.002)])
def test_ramps(up: float, down: float, every: int) -> None:
    """The trapezoid through (start, 0), (start + up, 1), (stop - down, 1), (stop, 0), at the middle of each step."""
    start, stop, total = 0.1, 0.6, 200
    window = Window(start, stop, every, up, down)
    for step in _distilled(window, total):
        time = (step + 0.5) / total
        rise = (time - start) / up if up else 1.0
        fall = (stop - time) / down if down else 1.0
        scale = window.scale(step, total)
        assert scale == pytest.approx(min(1.0, rise, fall))
        assert 0.0 < scale <= 1.0


def test_ramps_halve_the_mean_weight_where_they_run() -> None:
    window = Window(0.0, 1.0, ramp_up=0.4, ramp_down=0.2)
    assert sum(window.scale(step, 100) for step in range(100)) == pytest.approx(100 - 20 - 10)


@pytest.mark.parametrize("step", [-1, -100, 10, 1000])
def test_nothing_outside_training(step: int) -> None:
    assert Window().scale(step, 10) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -0.1}, r"window: start=-0.1 is outside \[0, 1\]; give a fraction of the whole training"),
        ({"stop": 1.5}, r"window: stop=1.5 is outside \[0, 1\]"),
        ({"stop": 40}, r"window: stop=40 is outside \[0, 1\].*0.4 for 40 %"),
        ({"stop": float("nan")}, r"window: stop=nan is outside"),
        ({"ramp_up": -1.0}, r"window: ramp_up=-1.0 is outside"),
        ({"ramp_down": float("inf")}, r"window: ramp_down=inf is outside"),
        ({"start": 0.6, "stop": 0.4}, r"window: start=0.6 is after stop=0.4; swap them"),
        ({"every": 0}, r"window: every=0 must be a whole number of steps, 1 or more"),
        ({"every": 1.5}, r"window: every=1.5 must be a whole number"),
        ({"start": 0.2, "stop": 0.5, "ramp_up": 0.2, "ramp_down": 0.2}, r"ramp_up=0.2 and ramp_down=0.2 do not fit"),
    ],
)
def test_messages(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadstartError, match=message):
        Window(**arguments)


def test_ramps_may_fill_the_window() -> None:
    """0.1 + 0.2 is a little more than 0.3 in floating point."""
    Window(stop=0.3, ramp_up=0.1, ramp_down=0.2)
