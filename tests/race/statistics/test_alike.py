"""Noise in a cyclic race, where the points of a curve share their trainings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from headstart.race import judge
from headstart.race.statistics.cells import Cells, FloatArray
from headstart.race.statistics.interval import speedup_ends
from headstart.race.statistics.noise import Noise, pooled_noise
from headstart.race.statistics.overlap import overlap_margin, overlap_speedup
from headstart.race.statistics.speedup import compare
from headstart.records import Arm, RaceRecord, RunRecord

BUDGETS = np.array([1.0, 3.0, 7.0])
SEEDS, RACES = 3, 3000


def _cells(quality: FloatArray, seeds: int = SEEDS) -> Cells:
    return Cells(BUDGETS, BUDGETS, quality, np.full(3, np.nan), np.full(3, float(seeds)))


def _run(arm: str, budget: float, seed: int, quality: float) -> RunRecord:
    return RunRecord(arm=arm, budget=budget, seed=seed, quality=quality, seconds=budget)


def _race(curve: str) -> RaceRecord:
    """Each seed is off by the same at every budget."""
    runs = [
        _run(arm, budget, seed, gain + 0.1 * math.log(budget) + 0.01 * seed)
        for arm, gain in (("plain", 0.5), ("mine", 0.55))
        for budget in BUDGETS
        for seed in range(SEEDS)
    ]
    arms = [Arm(name="plain"), Arm(name="mine")]
    content = {"arms": arms, "budgets": list(BUDGETS), "seeds": list(range(SEEDS)), "runs": runs, "curve": curve}
    return RaceRecord.model_validate({**content, "baseline": "plain", "primary": "mine"})


def test_each_training_tells_of_the_noise_once() -> None:
    runs = _race("cyclic").runs
    alike, apart = pooled_noise(runs, "cyclic"), pooled_noise(runs)
    assert (alike.freedom, apart.freedom) == (2 * (SEEDS - 1), 6 * (SEEDS - 1))
    assert alike.deviation == apart.deviation == pytest.approx(0.01)
    fewer = [run for run in runs if (run.arm, run.seed) != ("mine", 2) or run.budget == 1]
    assert pooled_noise(fewer, "cyclic").freedom == 4, "the cell with most seeds tells how many trainings there are"


def test_errors_of_a_curve_add_up() -> None:
    shares = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 2.0]])
    squares, freedom = np.full(3, 0.02), np.full(3, 2)
    apart, alike = (Noise.of(BUDGETS, squares, freedom, trainings_freedom=known) for known in (None, 2))
    deviation = np.sqrt(apart.of_means(_cells(np.zeros(3))))
    np.testing.assert_allclose(apart.of_combination(shares, _cells(np.zeros(3))), shares**2 @ deviation**2)
    expected = [
        (0.5 * deviation[0] + 0.5 * deviation[1]) ** 2,
        deviation[1] ** 2,
        (deviation[0] + 2 * deviation[2]) ** 2,
    ]
    np.testing.assert_allclose(alike.of_combination(shares, _cells(np.zeros(3))), expected)


def test_one_budget_is_students_t_as_ever() -> None:
    one = np.array([3.0])
    noise = Noise.of(np.repeat(one, 2), np.array([0.02, 0.04]), np.array([2, 4]), trainings_freedom=6)
    cells = Cells(one, one, np.array([0.5]), np.array([np.nan]), np.array([5.0]))
    assert noise.margin(noise.of_combination(np.ones(1), cells)) == pytest.approx(
        stats.t(6).ppf(0.975) * 0.1 / math.sqrt(5)
    )


def test_a_cyclic_race_has_the_wider_intervals() -> None:
    cyclic, separate = (judge(_race(curve)).results[0] for curve in ("cyclic", "separate"))
    for one, other in ((cyclic.speedup, separate.speedup), (cyclic.gain, separate.gain)):
        assert one is not None and other is not None and one.value == other.value
        assert one.low is not None and other.low is not None and one.low < other.low < one.value


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_equal_arms_are_seldom_told_apart_however_alike_the_points_are(shared: float) -> None:
    """With a correlation `shared` between the points of a training; taken for separate runs they are, too often."""
    generator = np.random.default_rng(0)
    truth = np.array([0.80, 0.85, 0.88])
    runs = [
        truth
        + 0.01 * math.sqrt(shared) * generator.standard_normal((RACES, SEEDS, 1))
        + 0.01 * math.sqrt(1 - shared) * generator.standard_normal((RACES, SEEDS, 3))
        for _ in range(2)
    ]
    base, mine = (_cells(values.mean(axis=1)) for values in runs)
    squares = np.concatenate([SEEDS * values.var(axis=1) for values in runs], axis=1)
    rates = []
    for known in (4, None):
        noise = Noise.of(np.tile(BUDGETS, 2), squares, np.full(6, SEEDS - 1), trainings_freedom=known)
        low, high = speedup_ends(base, mine, noise, compare(base, mine, noise.deviation))
        logs, margin = overlap_speedup(base, mine), overlap_margin(base, mine, noise)
        rates.append([float(((low > 1) | (high < 1)).mean()), float((np.abs(logs) > margin).mean())])
    cyclic, separate = rates
    assert max(cyclic) < 0.062  # 5 in 100, and three standard errors
    if shared == 1.0:
        assert max(separate) > 0.1
