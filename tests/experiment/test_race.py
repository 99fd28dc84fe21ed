"""The race of a recipe: its arms, its teachers, and what is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.errors import DataError, HeadstartError, RecipeError, TeacherError
from headstart.experiment.arms import arm_recipe, run_recipe
from headstart.experiment.race import race_recipe
from headstart.experiment.train_teachers import teacher_recipes
from headstart.recipe.load import varied
from headstart.recipe.recipe import Recipe
from headstart.records import RaceRecord, read_record
from headstart.train.watcher import SilentWatcher
from tests.tiny import RACE, racing, write_run


def arms(recipe: Recipe, **overrides: dict[str, Any]) -> list[Recipe]:
    return [varied(recipe, override, name) for name, override in overrides.items()]


class Noting(SilentWatcher):
    """Notes which teachers are trained, and how much of the calibration is left."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.left: list[int] = []

    def training(self, what: str) -> None:
        self.trained.append(what)

    def calibration_step(self, done: int, total: int) -> None:
        self.left.append(total - done)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "race"


def test_a_race_trains_teachers_first_and_does_nothing_twice(tiny_data: Path, folder: Path) -> None:
    recipe, watcher = racing(tiny_data), Noting()
    record = race_recipe(recipe, folder, watcher=watcher)
    assert watcher.trained == ["teacher old"] and record.failures == []
    assert watcher.left == sorted(watcher.left, reverse=True) and watcher.left[-1] == 0
    assert sorted((run.arm, run.budget, run.seed) for run in record.runs) == [
        (arm, budget, 0) for arm in ("baseline", "distill") for budget in (4.0, 8.0)
    ]
    assert record.calibration is not None
    for run in record.runs:
        assert sum(run.steps.values()) == run.budget and set(run.steps) <= set(record.calibration.kinds)
        assert [teacher.name for teacher in run.teachers] == ([] if run.arm == "baseline" else ["old"])
        assert set(run.teachers[0].steps if run.teachers else {}) <= set(record.calibration.kinds)
        assert run.folder is not None and (folder / run.folder / "model.safetensors").exists()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("**/record.json")}
    assert len(before) == 5
    again = race_recipe(recipe, folder)
    assert again.runs == record.runs and again.results == record.results
    assert {path: path.stat().st_mtime_ns for path in folder.glob("**/record.json")} == before
    assert read_record(RaceRecord, folder / "race.json") == again


def test_a_teacher_at_hand_is_timed_and_its_training_counted_in(
    tiny_data: Path, folder: Path, teachers: list[str]
) -> None:
    record = race_recipe(racing(tiny_data, distill={"teachers": teachers[:1]}), folder)
    assert record.calibration is not None and record.calibration.left_out == {}
    costs = [cost for run in record.runs for cost in run.teachers]
    assert costs and all(set(cost.steps) <= set(record.calibration.kinds) for cost in costs)
    result = next(result for result in record.results if result.clock == "calibrated")
    (steps,) = {sum(cost.steps.values()) for cost in costs}
    (kind,) = costs[0].steps
    assert result.teacher_cost == pytest.approx(steps * record.calibration.kinds[kind].seconds)


def test_a_budget_is_a_training_with_its_own_complete_schedule(tiny_data: Path) -> None:
    arm = arm_recipe(racing(tiny_data), "baseline")
    assert arm.distill is None and arm.race is None
    run = run_recipe(arm, 8.0, 3)
    assert (run.train.steps, run.train.seed) == (8, 3)
    by_epochs = varied(arm, {"train.epochs": 1, "train.steps": None}, "here")
    assert run_recipe(by_epochs, 0.5, 0).train.epochs == 0.5


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"race": None}, RecipeError, "tiny: the recipe has no race section; add budgets, seeds, arms"),
        (
            {"race": {**RACE, "arms": {"baseline": {"set": {"distil": None}}, "distill": {}}}},
            RecipeError,
            r"race.arms.baseline.set: distil: unknown key; did you mean 'distill'\?",
        ),
        ({"teachers": {"old": {"train.lrr": 1}}}, RecipeError, r"teachers.old: train.lrr: unknown key"),
        ({"distill": {"teachers": ["odl"]}}, TeacherError, "odl: no such run folder or file"),
        ({"data": {"name": "nowhere"}}, DataError, "no data set 'nowhere' here"),
        ({"train__batch_size": 500}, RecipeError, "train.batch_size=500 is more than the 120 training samples"),
        (
            {"train__steps": None, "train__epochs": 1, "race": {**RACE, "budgets": [0.01, 1]}, "teachers": {"old": {}}},
            RecipeError,
            "train.epochs=0.01 is less than one step",
        ),
    ],
)
def test_a_wrong_race_is_refused_before_anything_is_trained(
    changes: dict[str, Any], error: type[HeadstartError], message: str, tiny_data: Path, folder: Path
) -> None:
    with pytest.raises(error, match=message):
        race_recipe(racing(tiny_data, **changes), folder)
    assert not folder.exists()


def test_a_teacher_at_hand_that_does_not_fit_is_refused_before_anything_is_trained(
    tiny_data: Path, folder: Path, tmp_path: Path
) -> None:
    teacher = write_run(tmp_path / "teacher", classes=4)
    with pytest.raises(TeacherError, match="has 4 classes, the student 3"):
        race_recipe(racing(tiny_data, distill={"teachers": [str(teacher)]}), folder)
    assert not folder.exists()


def test_teachers_follow_from_the_recipe_and_not_from_what_an_arm_varies(tiny_data: Path) -> None:
    recipe = racing(tiny_data)
    taught = teacher_recipes(recipe, arms(recipe, plain={"distill": None}, wide={"model.width": 8, "train.lr": 3}))
    assert taught["old"].model.model_dump()["width"] == 4 and taught["old"].train.lr == 0.1
    assert (taught["old"].train.steps, taught["old"].train.seed) == (16, 100)
    assert taught["old"].distill is None and taught["old"].race is None and taught["old"].teachers == {}


def test_only_teachers_that_are_used_are_trained(tiny_data: Path) -> None:
    recipe = racing(tiny_data, teachers={"old": {}, "older": {}})
    assert set(teacher_recipes(recipe, [recipe])) == {"old"}


def test_arms_that_describe_a_teacher_differently_are_refused(tiny_data: Path) -> None:
    recipe = racing(tiny_data)
    with pytest.raises(
        RecipeError, match=r"teachers.old: arms describe it differently; give each of them a name of its"
    ):
        teacher_recipes(recipe, arms(recipe, one={}, other={"teachers": {"old": {"train.steps": 99}}}))


def test_a_teacher_named_like_a_folder_is_refused(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    recipe = racing(tiny_data)
    with pytest.raises(RecipeError, match=r"teachers.old: old is also a folder or file here; give the teacher another"):
        teacher_recipes(recipe, [recipe])
