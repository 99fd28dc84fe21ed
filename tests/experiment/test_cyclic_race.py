"""A race whose budgets are points of one training for each arm and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from headstart.errors import HeadstartError, RaceError, RecipeError
from headstart.experiment.arms import arm_recipe, run_recipe
from headstart.experiment.race import race_recipe
from headstart.experiment.race_parts import train_part, unfinished_parts
from headstart.recipe.recipe import Recipe
from headstart.records import RaceRecord
from headstart.train.session import Session
from tests.tiny import RACE, racing


def recipe(data: Path, *budgets: float, curve: str = "cyclic") -> Recipe:
    return racing(data, race={**RACE, "budgets": list(budgets), "curve": curve})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that runs and teachers train; the race does without a calibration."""
    steps: list[int] = []
    original = Session.train_step

    def noting(self: Session, step: int) -> Any:
        steps.append(step)
        return original(self, step)

    def no_calibration(*_: Any, **__: Any) -> NoReturn:
        raise HeadstartError("not now")

    monkeypatch.setattr(Session, "train_step", noting)
    monkeypatch.setattr("headstart.experiment.race.calibrate", no_calibration)
    return steps


def points(record: RaceRecord) -> dict[str, list[tuple[float, int]]]:
    """Budget and steps of each run, by arm."""
    return {
        arm.name: sorted((run.budget, sum(run.steps.values())) for run in record.runs if run.arm == arm.name)
        for arm in record.arms
    }


def test_each_arm_trains_once_and_more_cycles_go_on_from_there(
    tiny_data: Path, tmp_path: Path, trained: list[int]
) -> None:
    record = race_recipe(recipe(tiny_data, 4, 12), tmp_path)
    assert record.failures == [] and record.curve == "cyclic"
    assert points(record) == {"baseline": [(4, 4), (12, 12)], "distill": [(4, 4), (12, 12)]}
    assert len(trained) == 16 + 2 * 12  # the teacher, and each arm
    trained.clear()
    record = race_recipe(recipe(tiny_data, 4, 12, 28), tmp_path)
    assert [budget for budget, _ in points(record)["distill"]] == [4, 12, 28]
    assert len(trained) == 2 * 16
    half = {run.budget: run.steps for run in record.runs if run.arm == "distill"}
    assert [sorted(steps.values()) for steps in half.values()] == [[2, 2], [6, 6], [14, 14]]


def test_its_parts_go_on_from_each_other_too(tiny_data: Path, tmp_path: Path, trained: list[int]) -> None:
    raced = recipe(tiny_data, 4, 12)
    for part in unfinished_parts(raced, tmp_path):
        train_part(raced, tmp_path, part)
    assert len(trained) == 16 + 2 * 12
    trained.clear()
    record = race_recipe(raced, tmp_path)
    assert len(record.runs) == 4 and trained == []


def test_the_teachers_are_those_of_a_race_with_separate_runs(tiny_data: Path, tmp_path: Path) -> None:
    runs = [
        run_recipe(arm_recipe(recipe(tiny_data, 4, 12, curve=c), "distill"), 12.0, 3) for c in ("cyclic", "separate")
    ]
    assert [run.train.first_cycle for run in runs] == [4, None]
    assert runs[0].teachers == runs[1].teachers
    assert [(run.train.steps, run.train.seed, run.train.cycles) for run in runs] == [(12, 3, 2), (12, 3, 1)]


def test_separate_runs_and_cycles_do_not_meet_in_one_race(tiny_data: Path, tmp_path: Path, trained: list[int]) -> None:
    race_recipe(recipe(tiny_data, 4, 12), tmp_path)
    with pytest.raises(RaceError, match=r"override train\.first_cycle was 4\.0, is now not set"):
        race_recipe(recipe(tiny_data, 4, 12, curve="separate"), tmp_path)
    with pytest.raises(RaceError, match=r"override train\.first_cycle was 4\.0, is now 12\.0"):
        race_recipe(recipe(tiny_data, 12), tmp_path)


def test_budgets_that_end_no_cycle_are_refused(tiny_data: Path) -> None:
    with pytest.raises(RecipeError, match=r"race: budgets, with curve=cyclic: 8 ends in the middle .* 4, 12 and so on"):
        recipe(tiny_data, 4, 8)
