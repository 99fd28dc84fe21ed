"""A pilot: which runs it is made of, what it refuses, and how often its interval is right where the truth is known."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.errors import RaceError, RecipeError
from headstart.experiment.arms import planned_runs, run_recipe
from headstart.experiment.planning.pilot import BASELINE, TAUGHT, pilot_recipe, run_pilot
from headstart.race import judge
from headstart.recipe.recipe import Recipe
from headstart.records import Arm, RaceRecord, RunRecord, StepTime
from headstart.train.costs.pilot import PilotForecast, forecast_of
from headstart.train.costs.planned import PlannedMemory, PlanRecord, Way
from tests.tiny import RACE, tiny_recipe

NOISE = 0.004
WHOLE, OVERHEAD = 100.0, 0.2


def plan(steps: int = 1000) -> PlanRecord:
    """As far as a pilot looks at it: a plain run of 100 s."""
    return PlanRecord(
        recipe="tiny", device="", took=0, steps=steps, batch_size=24, plain=StepTime(seconds=0.1), student_flops=1,
        data_seconds=0, memory=PlannedMemory(parameters=1, gradients=1, optimizer=1),
        ways=[Way(name="plain", kind="plain", seconds=100.0)],
    )  # fmt: skip


def distilling(teacher: str = "runs/old", **changes: Any) -> Recipe:
    settings = {"distill": {"teachers": [teacher]}, "train__steps": 1000, **changes}
    return tiny_recipe(Path("somewhere"), **settings)


@pytest.fixture
def old(tmp_path: Path, teachers: list[str]) -> Path:
    (tmp_path / "teachers").mkdir()
    (tmp_path / "teachers" / "old").symlink_to(teachers[0])
    return tmp_path / "teachers"


def test_it_is_a_race_of_a_fraction_of_the_shortest_budget(teachers: list[str]) -> None:
    race = {**RACE, "budgets": [2000, 8000], "seeds": [2000, 0]}
    made = pilot_recipe(distilling(teachers[0], race=race), plan(), 0.1, Path("nowhere"))
    runs = [(run.arm, run.budget, run.seed) for run in planned_runs(made)]
    seeds = (2001, 2002)  # none of the race's
    expected = [*product([BASELINE], [200.0], seeds), *product([TAUGHT], [100.0, 200.0], seeds)]
    assert sorted(runs) == sorted(expected)
    assert run_recipe(made, 100.0, 2001).train.steps == 100


def test_epochs_stay_fractions_and_tuning_samples_are_what_it_is_judged_by(teachers: list[str]) -> None:
    recipe = distilling(teachers[0], train__steps=None, train__epochs=8, data__tuning=10, train__first_cycle=None)
    made = pilot_recipe(recipe, plan(8000), 0.25, Path("nowhere"))
    assert made.race is not None and made.race.budgets == [1.0, 2.0]
    assert made.data.model_dump()["evaluate"] == "tuning"


def test_described_teachers_are_those_that_lie_there(old: Path) -> None:
    teacher: dict[str, Any] = {"spec": "old", "fold": True}
    recipe = distilling(teachers={"old": {"train.steps": 30}}, distill={"teachers": [teacher]}, init={"from": "old"})
    made = pilot_recipe(recipe, plan(), 0.5, old)
    assert made.distill is not None and made.init is not None and made.teachers == {}
    assert made.distill.specs == [str(old / "old")] == [made.init.source] and made.distill.teachers[0].fold
    with pytest.raises(RaceError, match="teacher old is not trained yet"):
        pilot_recipe(recipe, plan(), 0.5, Path("nowhere"))


@pytest.mark.parametrize(
    ("fraction", "steps", "message"),
    [
        (0.0, 1000, "--pilot=0: give a fraction of the shortest budget, above 0 and at most 1"),
        (1.5, 1000, "--pilot=1.5: give a fraction"),
        (0.05, 1000, r"1000 steps, 1000 steps\) that is 50 steps, and below 100 .*; give --pilot 0.1"),
        (1.0, 60, "race it, which takes no longer than a pilot"),
    ],
)
def test_a_pilot_that_can_tell_nothing_is_refused(
    fraction: float, steps: int, message: str, teachers: list[str]
) -> None:
    with pytest.raises(RecipeError, match=message):
        pilot_recipe(distilling(teachers[0]), plan(steps), fraction, Path("nowhere"))


def test_it_trains_and_goes_on(
    tiny_data: Path, teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.experiment.planning.pilot.LEAST_STEPS", 3)
    recipe = tiny_recipe(tiny_data, distill={"teachers": teachers[:1]})
    found = run_pilot(recipe, plan(12), 0.5, tmp_path / "pilot", Path("nowhere"))
    assert (found.budget, found.unit, found.seeds, found.judged) == (6.0, "steps", 2, "the test data")
    assert (tmp_path / "pilot" / "report.html").exists() or (tmp_path / "pilot" / "race.json").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("pilot/runs/*/record.json")}
    assert len(before) == 6
    assert run_pilot(recipe, plan(12), 0.5, tmp_path / "pilot", Path("nowhere")).budget == 6.0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("pilot/runs/*/record.json")} == before


def quality(steps: Any) -> Any:
    """A learning curve that rises and levels off."""
    return 0.95 - 0.8 * np.asarray(steps, dtype=float) ** -0.3


def raced(speed: float, noise: np.random.Generator | None, seeds: int = 2) -> RaceRecord:
    """A pilot's race of an arm that learns so many times as much a step, at so much more cost."""
    runs = []
    for arm, budget, seed in [
        *product([BASELINE], [WHOLE], range(seeds)),
        *product([TAUGHT], [WHOLE / 2, WHOLE], range(seeds)),
    ]:
        taught = arm == TAUGHT
        error = 0.0 if noise is None else NOISE * float(noise.normal())
        runs.append(
            RunRecord(
                arm=arm, budget=budget, seed=seed, seconds=budget * (1 + OVERHEAD * taught),
                quality=float(quality(budget * (speed if taught else 1.0))) + error,
            )
        )  # fmt: skip
    arms = [Arm(name=BASELINE, budgets=[WHOLE]), Arm(name=TAUGHT)]
    budgets, names = [WHOLE / 2, WHOLE], {"baseline": BASELINE, "primary": TAUGHT}
    return judge(RaceRecord(arms=arms, budgets=budgets, seeds=list(range(seeds)), runs=runs, **names))


def forecast(speed: float, noise: np.random.Generator | None = None, seeds: int = 2) -> PilotForecast:
    return forecast_of(raced(speed, noise, seeds), fraction=0.1, plain_seconds=1000.0)


def covered(found: PilotForecast, truth: PilotForecast) -> bool:
    """Whether the interval has what endless seeds would show; a curve that never crosses has a speed-up of 0.

    Where the runs never cross the interval goes up to a crossing right after the longest at least.
    """
    if truth.speedup is None:
        return found.speedup is None or not found.speedup.low
    if found.speedup is None:
        return found.verdict == "not resolved" or truth.speedup.value <= 1 / (1 + OVERHEAD) + 1e-9
    least = (found.speedup.low or 0.0) <= truth.speedup.value * (1 + 1e-9)
    most = found.speedup.high is None or truth.status == "at least" or found.speedup.high >= truth.speedup.value
    return least and most


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.3, 1.6, 2.5])
@pytest.mark.parametrize("seeds", [2, 4])
def test_the_interval_is_right_as_often_as_it_says(speed: float, seeds: int) -> None:
    races, truth = 300, forecast(speed)
    noise = np.random.default_rng(int(100 * speed) + seeds)
    found = [forecast(speed, noise, seeds) for _ in range(races)]
    assert np.mean([covered(one, truth) for one in found]) > 0.95 - 2.5 * np.sqrt(0.95 * 0.05 / races)


def test_no_difference_is_seldom_called_one_and_a_clear_one_mostly_found() -> None:
    noise = np.random.default_rng(5)
    even = [forecast(1 + OVERHEAD, noise).verdict for _ in range(300)]
    assert np.mean([verdict != "not resolved" for verdict in even]) < 0.09
    clear = [forecast(2.5, noise, seeds=4).verdict for _ in range(100)]
    assert np.mean([verdict == "faster" for verdict in clear]) > 0.8
    assert not any(verdict == "slower" for verdict in clear)


def test_what_is_forecast_is_the_saving_in_proportion_and_nothing_where_it_is_not_resolved() -> None:
    sure = forecast(1.7)  # two seeds that agree to the last bit
    assert sure.verdict == "faster" and sure.speedup is not None and sure.saved_seconds is not None
    assert sure.speedup.value == pytest.approx(1.7 / 1.2, rel=0.05)  # the curve between two points is a straight line
    assert sure.saved_seconds.value == pytest.approx(1000 * (1 - 1 / sure.speedup.value))
    unsure = next(
        one
        for one in (forecast(1.25, np.random.default_rng(seed)) for seed in range(20))
        if one.verdict == "not resolved"
    )
    assert unsure.saved_seconds is None
    slower = forecast(0.8)
    assert slower.verdict == "slower" and slower.status == "not reached" and slower.saved_seconds is None


def test_a_pilot_without_a_result_is_no_forecast() -> None:
    nothing = raced(1.0, None).model_copy(update={"results": []})
    with pytest.raises(RaceError, match="cannot be compared"):
        forecast_of(nothing, fraction=0.1, plain_seconds=1.0)
