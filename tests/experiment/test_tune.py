"""A race whose arms get settings of their own first: by trials that are kept, and never judged by what the race is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.errors import DataError, RaceError, RecipeError
from headstart.experiment.race import race_recipe
from headstart.experiment.race_parts import train_part, unfinished_parts
from headstart.race import read_race
from headstart.records import RunRecord, read_record
from headstart.train.watcher import SilentWatcher
from tests.experiment.test_trials import tuned
from tests.tiny import tiny_recipe, write_run


class Noting(SilentWatcher):
    def __init__(self) -> None:
        self.trained: list[str] = []
        self.notes: list[str] = []

    def training(self, what: str) -> None:
        self.trained.append(what)

    def note(self, line: str) -> None:
        self.notes.append(line)


def trial_records(folder: Path) -> dict[str, RunRecord]:
    return {path.parent.name: read_record(RunRecord, path) for path in folder.glob("tuning/*/record.json")}


def test_arms_are_raced_with_what_they_chose(tiny_data: Path, tmp_path: Path) -> None:
    watcher = Noting()
    record = race_recipe(tuned(tiny_data), tmp_path, watcher=watcher)
    assert watcher.trained[:2] == ["teacher old", "tuning baseline, train.lr=0.05, seed 1000"]
    assert len([what for what in watcher.trained if what.startswith("tuning")]) == 4
    assert sum(note.startswith("tuned distill, train.lr=") for note in watcher.notes) == 2

    done = trial_records(tmp_path)
    assert len(done) == 4 and record.tuning is not None and len(record.tuning.trials) == 4
    assert (record.tuning.budget, record.tuning.samples, record.tuning.metric) == (4, 24, "accuracy")
    for trial in record.tuning.trials:
        kept = done[f"{trial.arm}-train.lr={trial.values['train.lr']}-s1000"]
        assert (trial.quality, trial.seconds, trial.flops) == (kept.quality, kept.seconds, kept.flops)
        assert kept.settings["data"]["evaluate"] == "tuning"
        assert kept.quality * 24 == pytest.approx(round(kept.quality * 24))  # of 24 samples, and not of the test's 60
    for arm in record.arms:
        chosen = record.tuning.chosen[arm.name]
        best = max((trial for trial in record.tuning.trials if trial.arm == arm.name), key=lambda one: one.quality or 0)
        assert chosen == best.values and arm.overrides["train.lr"] == chosen["train.lr"]
        for run in (run for run in record.runs if run.arm == arm.name):
            assert run.settings["train"]["lr"] == chosen["train.lr"]
            assert run.settings["data"]["evaluate"] == "test" and run.settings["data"]["tuning"] == 24


def test_finished_trials_count_and_the_race_goes_on_as_it_was(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tuned(tiny_data)
    first = race_recipe(recipe, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("**/record.json")}
    watcher = Noting()
    again = race_recipe(recipe, tmp_path, watcher=watcher)
    assert watcher.trained == ["teacher old"] and not any(note.startswith("tuned") for note in watcher.notes)
    assert again == read_race(tmp_path) and again.tuning == first.tuning and again.runs == first.runs
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("**/record.json")} == times
    more = race_recipe(tuned(tiny_data, {"tune": {"train.lr": [0.05, 0.2, 1e-6]}}), tmp_path, watcher=watcher)
    assert [what for what in watcher.trained if "train.lr=1e-06" in what] == watcher.trained[2:]
    assert more.tuning is not None and first.tuning is not None and len(more.tuning.trials) == 6
    assert more.tuning.chosen == first.tuning.chosen and more.runs == first.runs


def test_another_choice_does_not_meet_finished_runs(tiny_data: Path, tmp_path: Path) -> None:
    one = {"tune": {"train.lr": [0.2]}}
    race_recipe(tuned(tiny_data, one), tmp_path)
    with pytest.raises(RaceError, match=r"made with another definition: override train.lr was 0.2, is now 0.1"):
        race_recipe(tuned(tiny_data, {"tune": {"train.lr": [0.1]}}), tmp_path)


def test_a_setting_with_which_training_diverges_is_told_of_and_not_tried_again(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tuned(tiny_data, {"tune": {"train.lr": [0.05, 1e20]}})
    first = race_recipe(recipe, tmp_path)
    assert first.tuning is not None and first.failures == []
    bad = [trial for trial in first.tuning.trials if trial.values["train.lr"] == 1e20]
    assert len(bad) == 2 and all(trial.quality is None and "train.lr" in trial.failure for trial in bad)
    assert first.tuning.chosen == {arm: {"train.lr": 0.05} for arm in ("baseline", "distill")}
    watcher = Noting()
    assert race_recipe(recipe, tmp_path, watcher=watcher).tuning == first.tuning
    assert watcher.trained == ["teacher old"]


def test_trials_side_by_side_are_those_one_after_the_other(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tuned(tiny_data)
    one, two = (race_recipe(recipe, tmp_path / str(count), workers=count) for count in (1, 2))
    assert one.tuning is not None and two.tuning is not None
    assert [trial.quality for trial in one.tuning.trials] == [trial.quality for trial in two.tuning.trials]
    assert one.tuning.chosen == two.tuning.chosen


def test_trials_are_parts_of_a_race_in_parts(tiny_data: Path, tmp_path: Path) -> None:
    recipe, folder = tuned(tiny_data), tmp_path / "parts"
    parts = unfinished_parts(recipe, folder)
    assert [part.split("/")[0] for part in parts] == ["teachers"] + ["tuning"] * 4 + ["runs"] * 4
    assert not folder.exists()
    train_part(recipe, folder, parts[0])
    needing = next(part for part in parts if part.startswith("runs/baseline"))
    with pytest.raises(RaceError, match=r"needs the settings that baseline chooses: --only tuning/baseline-"):
        train_part(recipe, folder, needing)
    for number, part in enumerate(parts):
        train_part(recipe, folder, part)
        assert unfinished_parts(recipe, folder) == parts[number + 1 :]
    judged, whole = race_recipe(recipe, folder), race_recipe(recipe, tmp_path / "whole")
    assert [run.quality for run in judged.runs] == [run.quality for run in whole.runs]
    assert judged.tuning is not None and whole.tuning is not None and judged.tuning.chosen == whole.tuning.chosen


def test_teachers_that_have_seen_the_samples_to_tune_by_are_refused(tiny_data: Path, tmp_path: Path) -> None:
    seeing: dict[str, Any] = {"teachers": {"old": {"train.steps": 16, "data.tuning": 0}}}
    with pytest.raises(RecipeError, match=r"race.tune: old was trained on the 24 samples of data.tuning"):
        race_recipe(tuned(tiny_data, **seeing), tmp_path / "race")
    place = write_run(tmp_path / "earlier")
    record = read_record(RunRecord, place / "record.json")
    settings = {**record.model_dump(), "settings": tiny_recipe(tiny_data).model_dump(mode="json")}
    (place / "record.json").write_text(RunRecord.model_validate(settings).model_dump_json())
    with pytest.raises(RecipeError, match=r"earlier was trained on the 24 samples of data.tuning"):
        race_recipe(tuned(tiny_data, distill={"teachers": [str(place)]}), tmp_path / "race")
    assert not (tmp_path / "race").exists()


def test_what_is_wrong_with_the_samples_to_tune_by_is_said_before_anything_is_trained(
    tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"data.holdout=0 and data.tuning=120 leave none of the 120 images"):
        race_recipe(tuned(tiny_data, data__tuning=120), tmp_path / "race")
    assert not (tmp_path / "race").exists()
