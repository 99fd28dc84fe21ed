"""The races against `distill: auto`: that they are recipes, what is summed up, teachers that have learnt nothing."""

from __future__ import annotations

from pathlib import Path

import autopilot
import pytest

from headstart.records import ArmResult, Estimate, RaceRecord, RunRecord, read_record
from headstart.teachers import load_teacher
from headstart.train.run import train
from results_file import Figure
from teacher_ranking import rankings_of
from tests.tiny import tiny_recipe


@pytest.mark.parametrize("field", autopilot.FIELDS, ids=lambda field: field.name)
def test_each_teacher_is_raced_automatically_and_by_fixed_settings(field: autopilot.Field) -> None:
    for one in (field, autopilot.quick(field)):
        places = {name: Path("/teachers") / name for name in one.teachers}
        recipe = autopilot.race_of(one, places, seeds=2, pairs=1)
        assert recipe.race is not None
        arms = recipe.race.arms
        assert set(arms) == {"baseline"} | {f"{name}-auto" for name in places} | {
            f"{name}-{setting}" for name in places for setting in one.fixed[name]
        }
        from headstart.experiment.arms import arm_recipe

        for name in places:
            section = arm_recipe(recipe, f"{name}-auto").distill
            assert section is not None and section.specs == [str(places[name])]
            assert section.undecided == ["temperature", "weight", "open_at", "every", "weights"]
            assert section.stop == "auto"
            fixed = arm_recipe(recipe, f"{name}-{one.fixed[name][0]}").distill
            assert fixed is not None and fixed.undecided == []
    assert sum(len(field.teachers) for field in autopilot.FIELDS) >= 8


def test_what_is_summed_up() -> None:
    def result(arm: str, value: float | None) -> ArmResult:
        estimate = None if value is None else Estimate(value=value, low=value - 0.1, high=value + 0.1)
        return ArmResult(arm=arm, clock="flops", status="reached", verdict="not resolved", overlap_speedup=estimate)

    results = [result("good-auto", 1.35), result("good-half", 1.5), result("good-late", 1.2)]
    results += [result("poor-auto", 0.98), result("poor-half", 0.7), result("odd-auto", 1.1), result("odd-half", None)]
    record = RaceRecord(
        arms=[], baseline="baseline", primary="good-auto", budgets=[1], seeds=[0, 1, 2], results=results
    )
    figures = autopilot.figures_of(record, autopilot.IMAGES)
    assert figures["speedup.images.good.half.flops"] == Figure(value=1.5, low=1.4, high=1.6, n=3)
    assert "speedup.images.odd.half.flops" not in figures
    runs = [RunRecord(quality=value, seconds=1.0, arm="good-auto", budget=40.0) for value in (0.5, 0.7)]
    qualities = autopilot.qualities_of(record.model_copy(update={"runs": runs}), autopilot.IMAGES)
    assert qualities == {"quality.images.good.auto.40-steps": Figure(value=0.6, n=2)}
    found = autopilot.summed_up(figures)
    assert set(found) == {"worst.flops", "median_of_best.flops", "gain_of_best.flops"}
    assert found["gain_of_best.flops"].value == pytest.approx(0.35 / 0.5)  # nothing fixed gains elsewhere
    assert found["worst.flops"].value == 0.98
    assert found["median_of_best.flops"].value == pytest.approx(0.98)  # of 0.9, 0.98, 1.1: not distilling is 1


def test_teachers_that_have_learnt_nothing(tiny_data: Path, tmp_path: Path) -> None:
    for name, shuffled in (("shuffled", True), ("random", False)):
        recipe = tiny_recipe(tiny_data, train__steps=4)
        autopilot._untaught(recipe, tmp_path / name, shuffled=shuffled)
        record = read_record(RunRecord, tmp_path / name / "record.json")
        assert (record.flops is not None) is shuffled
        load_teacher(tmp_path / name)


def test_a_ranking_is_held_against_what_races_showed(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, train__steps=30)
    train(recipe, tmp_path / "good")
    for name, shuffled in (("shuffled", True), ("random", False)):
        autopilot._untaught(recipe, tmp_path / name, shuffled=shuffled)
    places = {name: tmp_path / name for name in ("random", "good", "shuffled", "unraced")}
    found = rankings_of(recipe, places, {"good": 1.5, "shuffled": 0.7, "random": 0.6})
    assert set(found) == {"gain", "grace"} and {figure.n for figure in found.values()} == {3}
    assert found["gain"].value > 0.4 and -1.0 <= found["grace"].value <= 1.0
    other_way = rankings_of(recipe, places, {"good": 0.5, "shuffled": 1.7, "random": 1.6})
    assert other_way["gain"].value < 0
    assert rankings_of(recipe, places, {"good": 0.5, "random": 1.0}) == {}


def test_ranked_by_the_setting_that_all_teachers_were_raced_with() -> None:
    keys = [f"speedup.images.{name}.half.calibrated" for name in autopilot.IMAGES.teachers]
    assert len(keys) == 8 and all("half" in autopilot.IMAGES.fixed[name] for name in autopilot.IMAGES.teachers)
