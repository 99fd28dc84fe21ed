"""The doctor on a recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from headstart.commands.doctor import doctor_recipe
from headstart.errors import RecipeError
from headstart.experiment.fill_cache import cache_recipe
from headstart.teachers.doctor import Check
from headstart.train.run import train
from tests.tiny import tiny_recipe, write_images, write_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data")


def examine(data: Path, folder: Path, **distill: Any) -> list[Check]:
    recipe = tiny_recipe(data, teachers={"old": {"train.steps": 40}}, distill=distill)
    return doctor_recipe(recipe, folder)


def test_a_recipe_whose_teacher_is_there(data: Path, tmp_path: Path) -> None:
    train(tiny_recipe(data, train__steps=40), tmp_path / "teachers" / "old")
    found = examine(data, tmp_path / "teachers", teachers=["old"])
    assert [check.name for check in found if check.status == "fail"] == []
    names = {check.name: check for check in found}
    assert {"labels", "normalisation", "micro-batches", "cost"} <= names.keys()
    assert names["labels"].teacher == "old" and names["labels"].status == "pass"


def test_the_recipes_loss_and_window_are_those_examined(data: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "old")
    found = examine(data, tmp_path, teachers=[str(tmp_path / "old")], loss="dist", stop=0.25)
    names = {check.name: check for check in found}
    assert names["micro-batches"].status == "warn" and "25% of steps distilled" in names["cost"].finding


def test_teachers_that_are_not_at_hand_are_named_and_the_others_examined(data: Path, tmp_path: Path) -> None:
    run, other = (
        write_run(tmp_path / "runs" / "one"),
        write_run(tmp_path / "grey", mean=(0.1, 0.2, 0.3), std=(0.2,) * 3),
    )
    found = examine(data, tmp_path, teachers=["old", "nowhere", str(other), str(run)], draw=4)
    missing = [(check.teacher, check.status) for check in found if check.name == "at hand"]
    assert missing == [("old", "warn"), ("nowhere", "fail"), (str(other), "fail")]
    assert "no such run folder" in found[1].finding and "3 channels" in found[2].finding
    assert {check.teacher for check in found if check.name == "classes"} == {str(run)}


def test_without_any_teacher_nothing_else_is_examined(data: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()  # under way
    found = examine(data, tmp_path, teachers=["old"])
    assert [(check.name, check.status) for check in found] == [("at hand", "warn")]


class TestCachedTargets:
    """A run on them needs no teacher, but a cache that fits."""

    @pytest.fixture
    def teachers(self, data: Path, tmp_path: Path) -> Path:
        """The folder of a teacher whose targets are cached, for six of twelve steps."""
        folder = tmp_path / "teachers"
        train(tiny_recipe(data, train__steps=40), folder / "old")
        live = tiny_recipe(data, teachers={"old": {}}, distill={"teachers": ["old"]})
        cache_recipe(live, tmp_path / "cache", teacher_paths={"old": folder / "old"})
        return folder

    def test_of_a_teacher_that_is_there(self, data: Path, teachers: Path, tmp_path: Path) -> None:
        found = examine(data, teachers, teachers=["old"], cache=str(tmp_path / "cache"))
        names = {check.name: check for check in found}
        assert [check.name for check in found if check.status == "fail"] == []
        assert names["cached targets"].status == "pass" and names["labels"].teacher == "old"
        assert "cost" not in names  # no forward is made

    def test_of_a_teacher_that_is_gone(self, data: Path, teachers: Path, tmp_path: Path) -> None:
        found = examine(data, tmp_path / "elsewhere", teachers=["old"], cache=str(tmp_path / "cache"))
        assert [(check.name, check.status) for check in found] == [("cached targets", "pass")]

    def test_that_end_before_the_window(self, data: Path, teachers: Path, tmp_path: Path) -> None:
        (found,) = examine(data, tmp_path / "elsewhere", teachers=["old"], stop=0.9, cache=str(tmp_path / "cache"))
        assert found.status == "fail" and "headstart cache" in found.advice and "old.targets" in found.finding

    def test_of_other_weights(self, data: Path, teachers: Path, tmp_path: Path) -> None:
        write_run(tmp_path / "others" / "old")
        found = examine(data, tmp_path / "others", teachers=["old"], cache=str(tmp_path / "cache"))
        assert found[0].name == "cached targets" and "holds targets of something else" in found[0].finding


def test_a_recipe_that_does_not_distil(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="distill=null, init=null: there is nothing to examine"):
        doctor_recipe(tiny_recipe(data), tmp_path)


def test_the_loss_right_after_an_init_stands_beside_a_fresh_ones(data: Path, tmp_path: Path) -> None:
    train(tiny_recipe(data, train__steps=60), tmp_path / "old")
    [good] = doctor_recipe(tiny_recipe(data, init={"from": str(tmp_path / "old")}), tmp_path)
    assert (good.name, good.status) == ("init", "pass") and "100.0% of the parameters inherited" in good.finding
    right_after, fresh = (float(found) for found in re.findall(r"(?:loss|after it,) ([\d.]+)", good.finding))
    assert right_after < fresh
    unfit = write_run(tmp_path / "unfit", mean=(0.1, 0.2, 0.3), std=(0.2,) * 3)
    [bad] = doctor_recipe(tiny_recipe(data, init={"from": str(unfit), "require": 1.0}), tmp_path)
    assert bad.status == "fail" and bad.finding.startswith(f"init.from={unfit}")
    missing = tiny_recipe(data, init={"from": "old"}, teachers={"old": {}}, distill={"teachers": ["old"]})
    assert [(check.name, check.status) for check in doctor_recipe(missing, tmp_path / "none")] == [
        ("init", "warn"),
        ("at hand", "warn"),
    ]
