"""The curves for the report."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headstart.race import speedup_against_quality, speedup_at_quality, tradeoff_curves
from tests.race.conftest import MakeRace


def test_tradeoff_curves(make_race: MakeRace) -> None:
    values = {1.0: 0.2, 2.0: 0.6, 4.0: 0.4}
    race = make_race(
        {"plain": lambda b, s: values[b] + 0.1 * s, "lone": lambda b, s: b},
        budgets=[1, 2, 4],
        seeds=[0, 1, 2],
        pace={"plain": 3.0},
    )
    race = race.model_copy(update={"runs": [r for r in race.runs if r.arm == "plain" or r.seed == 0]})
    curve = tradeoff_curves(race, "seconds")["plain"]
    assert curve.budget.tolist() == [1, 2, 4]
    assert curve.cost.tolist() == [3, 6, 12]
    assert curve.quality == pytest.approx([0.3, 0.7, 0.5])
    assert curve.deviation == pytest.approx([0.1, 0.1, 0.1])
    assert curve.count.tolist() == [3, 3, 3]
    assert curve.monotone == pytest.approx([0.3, 0.6, 0.6])
    assert np.isnan(tradeoff_curves(race, "seconds")["lone"].deviation).all()
    assert tradeoff_curves(race, "flops") == {}


def test_monotone_falls_where_lower_is_better(make_race: MakeRace) -> None:
    values = {1.0: 0.8, 2.0: 0.4, 4.0: 0.6}
    same = {name: lambda b, s: values[b] for name in ("plain", "same")}
    race = make_race(same, budgets=[1, 2, 4], run={"higher_is_better": False, "metric": "loss"})
    assert tradeoff_curves(race, "seconds")["plain"].monotone == pytest.approx([0.8, 0.5, 0.5])


@pytest.mark.parametrize("sign", [1, -1])
def test_speedup_against_quality_over_the_overlap(make_race: MakeRace, sign: int) -> None:
    race = make_race(
        {"plain": lambda b, s: sign * math.log(b), "fast": lambda b, s: sign * math.log(2 * b)},
        run={"higher_is_better": sign > 0},
    )
    curve = speedup_against_quality(race, "fast", "seconds", points=7)
    assert curve.quality == pytest.approx([sign * x for x in np.linspace(math.log(2), math.log(8), 7)])
    assert curve.speedup == pytest.approx([2.0] * 7)


def test_nothing_where_the_curves_share_no_quality(make_race: MakeRace) -> None:
    race = make_race({"plain": lambda b, s: b, "apart": lambda b, s: b + 100})
    assert len(speedup_against_quality(race, "apart", "seconds").quality) == 0
    assert len(speedup_against_quality(race, "apart", "calibrated").speedup) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_speedup_at_quality(make_race: MakeRace, sign: int) -> None:
    race = make_race(
        {
            "plain": lambda b, s: sign * (math.log(b) + 0.01 * s),
            "fast": lambda b, s: sign * (math.log(3 * b) - 0.01 * s),
        },
        seeds=[0, 1, 2],
        pace={"fast": 1.5},
        run={"higher_is_better": sign > 0},
    )
    estimate = speedup_at_quality(race, "fast", "seconds", sign * 1.5)
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.value == pytest.approx(2.0, rel=0.03)
    assert 1.9 < estimate.low < estimate.value < estimate.high < 2.1
    assert speedup_at_quality(race, "fast", "seconds", sign * 9.0) is None, "out of reach"
    assert speedup_at_quality(race, "fast", "flops", sign * 1.5) is None, "a clock that does not know the runs"
