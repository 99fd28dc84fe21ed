"""A race and runs of an earlier version, from before recipes had some of their keys: they stay what they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from headstart.errors import HeadstartError
from headstart.experiment.race import race_recipe
from headstart.race import judge, read_race
from headstart.recipe.load import load_recipe
from headstart.train.run import train
from headstart.train.state.run_folder import RunFolder
from tests.tiny import write_images

OLD = Path(__file__).parent / "earlier"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the race, where its data is, and weights (of which nothing is read)."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    write_images(tmp_path / "images")
    for record in tmp_path.glob("race/*/*/record.json"):
        (record.parent / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_runs_lack_keys_of_today(old: Path) -> None:
    text = (old / "race/runs/distill-b4-s0/recipe.yaml").read_text()
    assert "residence" not in text and "progressive" not in text and "ema" not in text


def test_a_finished_run_is_not_trained_again(old: Path) -> None:
    folder = old / "race/runs/baseline-b8-s0"
    recipe = load_recipe(folder / "recipe.yaml")
    finished = RunFolder(folder, recipe).finished()
    assert finished is not None
    assert train(recipe, folder) == finished


def test_another_recipe_is_still_another(old: Path) -> None:
    folder = old / "race/runs/baseline-b8-s0"
    with pytest.raises(HeadstartError, match=r"train\.ema was None, is now 0\.9"):
        RunFolder(folder, load_recipe(folder / "recipe.yaml", ["train.ema=0.9"]))


def test_the_race_is_judged_as_before_and_nothing_is_done_again(old: Path) -> None:
    before = read_race(old / "race")
    after = race_recipe(load_recipe(old / "recipe.yaml"), old / "race")
    assert after.results == before.results == judge(before).results
    assert after.calibration == before.calibration
    assert after.runs == before.runs


def test_a_race_that_goes_on_calibrates_old_and_new_runs_by_the_same_names(old: Path) -> None:
    before = read_race(old / "race")
    shutil.rmtree(old / "race/teachers/old")  # its weights are read: it is trained again
    recipe = load_recipe(old / "recipe.yaml", ["race.budgets=[4,8,16]"])
    after = race_recipe(recipe, old / "race")
    assert not after.failures and len(after.runs) == 6
    kept = {(run.arm, run.budget): run.quality for run in before.runs}
    assert {(run.arm, run.budget): run.quality for run in after.runs if run.budget < 16} == kept
    assert after.calibration is not None
    kinds = {kind for run in after.runs for kind in run.steps}
    assert kinds == set(after.calibration.kinds) and len(kinds) == 2
    assert kinds.isdisjoint(kind for run in before.runs for kind in run.steps)
