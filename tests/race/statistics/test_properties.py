"""What must hold of every race, put to random ones; and their speed-ups computed once more by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from statistics import fmean
from typing import Any

import pytest

from headstart.race import judge, tradeoff_curves
from headstart.records import Arm, ArmResult, RaceRecord, RunRecord

SEEDS = range(8)


def any_race(number: int) -> RaceRecord:
    """Arms of any pace, with noise, ties, and cells that lack runs."""
    rng = Random(number)
    budgets = sorted(rng.sample([0.5, 1, 2, 3, 4, 8, 16], rng.randint(1, 5)))
    seeds = list(range(rng.randint(1, 3)))
    runs = []
    for arm in ("plain", "mine"):
        pace = rng.uniform(0.5, 2)
        for budget in budgets:
            for seed in seeds:
                quality = round(1 - 0.5 / budget**0.5 + rng.gauss(0, 0.05), rng.choice([1, 6]))
                if rng.random() < 0.9 or (budget, seed) == (budgets[0], 0):
                    seconds = budget * pace * rng.uniform(0.95, 1.05)
                    runs.append(RunRecord(arm=arm, budget=budget, seed=seed, quality=quality, seconds=seconds))
    arms = [Arm(name="plain"), Arm(name="mine")]
    return RaceRecord(arms=arms, baseline="plain", primary="mine", budgets=budgets, seeds=seeds, runs=runs)


def changed(race: RaceRecord, of: Callable[[RunRecord], dict[str, Any]]) -> RaceRecord:
    return race.model_copy(update={"runs": [run.model_copy(update=of(run)) for run in race.runs]})


def result(race: RaceRecord) -> ArmResult:
    (found,) = judge(race).results
    return found


@pytest.mark.parametrize("number", SEEDS)
def test_against_a_second_implementation(number: int) -> None:
    race = any_race(number)
    cells = {
        arm: [[run for run in race.runs if (run.arm, run.budget) == (arm, budget)] for budget in race.budgets]
        for arm in ("plain", "mine")
    }
    plain, mine = ([cell for cell in cells[arm] if cell] for arm in cells)
    spare = sum(len(cell) - 1 for cell in plain + mine)
    squares = sum((run.quality - _quality(cell)) ** 2 for cell in plain + mine for run in cell)
    best = max(plain, key=_quality)
    lowest = _quality(best) - (math.sqrt(squares / spare / len(best)) if spare else 0)
    reference = next(cell for cell in plain if _quality(cell) >= lowest - 1e-12)
    target, fitted = _quality(reference), _pool_adjacent_violators(sorted(mine, key=_cost))
    cost = _read(sorted(map(_cost, mine)), fitted, target)
    found = result(race)
    assert found.reference_budget == reference[0].budget
    assert found.target_quality == pytest.approx(target)
    assert found.arm_cost == (None if cost is None else pytest.approx(cost))
    if found.speedup is not None and cost is not None:
        assert found.speedup.value == pytest.approx(_cost(reference) / cost)
        assert (found.speedup.low or 0) <= found.speedup.value <= (found.speedup.high or math.inf)


def _cost(cell: list[RunRecord]) -> float:
    return fmean(run.seconds for run in cell)


def _quality(cell: list[RunRecord]) -> float:
    return fmean(run.quality for run in cell)


def _pool_adjacent_violators(cells: list[list[RunRecord]]) -> list[float]:
    blocks: list[tuple[list[RunRecord], int]] = []  # the runs of some neighbouring cells, and their number
    for cell in cells:
        blocks.append((cell, 1))
        while len(blocks) > 1 and _quality(blocks[-2][0]) > _quality(blocks[-1][0]):
            (before, fewer), (after, more) = blocks[-2:]
            blocks[-2:] = [(before + after, fewer + more)]
    return [_quality(runs) for runs, number in blocks for _ in range(number)]


def _read(costs: list[float], curve: list[float], target: float) -> float | None:
    target -= 1e-12  # the mean of equal numbers, by another way
    after = next((index for index, quality in enumerate(curve) if quality >= target), None)
    if not after:
        return None if after is None else costs[0]
    share = (target - curve[after - 1]) / (curve[after] - curve[after - 1])
    return costs[after - 1] * math.exp(share * math.log(costs[after] / costs[after - 1]))


@pytest.mark.parametrize("number", SEEDS)
def test_the_order_of_the_runs_says_nothing(number: int) -> None:
    race = any_race(number)
    mixed = race.model_copy(update={"runs": Random(number).sample(race.runs, len(race.runs))})
    assert result(mixed) == result(race)


@pytest.mark.parametrize("number", SEEDS)
def test_a_faster_clock_changes_costs_alone(number: int) -> None:
    race = any_race(number)
    one, other = result(race), result(changed(race, lambda run: {"seconds": 1024 * run.seconds}))
    for name in ("status", "verdict", "target_quality", "reference_budget", "more_seeds"):
        assert getattr(other, name) == getattr(one, name)
    for name in ("speedup", "overlap_speedup", "gain"):
        before, after = getattr(one, name), getattr(other, name)
        ends = [{} if of is None else of.model_dump(exclude_none=True) for of in (before, after)]
        assert ends[1] == pytest.approx(ends[0], rel=1e-6)


@pytest.mark.parametrize("number", SEEDS)
def test_lower_is_better_mirrors_higher_is_better(number: int) -> None:
    race = any_race(number)
    one = result(race)
    other = result(changed(race, lambda run: {"quality": -run.quality, "higher_is_better": False}))
    assert one.target_quality is not None and other.target_quality is not None
    assert other.model_copy(update={"target_quality": -other.target_quality}) == one


@pytest.mark.parametrize("number", SEEDS)
def test_an_arm_that_is_the_baseline_is_exactly_as_fast(number: int) -> None:
    """Where its curve rises; else the baseline's best is a lucky one, which its own smoothed curve may not reach."""
    race = any_race(number)
    base = [run for run in race.runs if run.arm == "plain"]
    rising = {run.budget: 0.1 * place for place, run in enumerate(sorted(base, key=lambda run: run.budget))}
    runs = [run.model_copy(update={"arm": arm, "quality": run.quality / 1e3 + rising[run.budget]}) for run in base
            for arm in ("plain", "mine")]  # fmt: skip
    found = result(race.model_copy(update={"runs": runs}))
    assert found.speedup is not None
    assert (found.speedup.value, found.verdict, found.status) == (1.0, "not resolved", "reached")


def test_an_error_of_nothing_is_not_minus_nothing() -> None:
    runs = [
        RunRecord(arm=arm, budget=1, seconds=1, quality=0.0, metric="error", higher_is_better=False)
        for arm in ("plain", "mine")
    ]
    race = any_race(0).model_copy(update={"runs": runs})
    assert str(result(race).target_quality) == "0.0"
    curve = tradeoff_curves(race, "seconds")["mine"]
    assert [str(float(values[0])) for values in (curve.quality, curve.monotone)] == ["0.0", "0.0"]
