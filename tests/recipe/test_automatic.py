"""`distill: auto`: what the word stands for, before a probe and after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.distill.probing import Choice
from headstart.errors import RecipeError
from headstart.recipe.automatic import MEANS, decided, provisional
from headstart.recipe.checks import check_settings
from headstart.recipe.distill_section import Distill
from headstart.recipe.load import dump_recipe, load_recipe, parse_recipe, varied
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import distill_kind, window_of

BASE: dict[str, Any] = {"data": {"name": "x"}, "train": {"epochs": 1}}


def section(recipe: Recipe) -> Distill:
    assert recipe.distill is not None
    return recipe.distill


def test_the_word_stands_for_all_teachers_described_and_each_setting_spelled_out(tmp_path: Path) -> None:
    recipe = parse_recipe({**BASE, "teachers": {"old": {}, "older": {}}, "distill": "auto"}, "here")
    found = section(recipe)
    assert found.specs == ["old", "older"]
    assert {key: getattr(found, key) for key in MEANS} == dict(MEANS)
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml") == recipe


@pytest.mark.parametrize("by", ["varied", "command"])
def test_as_an_override_it_keeps_the_teachers_that_are_there(tmp_path: Path, by: str) -> None:
    named = {"teachers": [{"spec": "runs/old", "fold": True}], "loss": "mse"}
    recipe = parse_recipe({**BASE, "distill": named}, "here")
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    again = (
        varied(recipe, {"distill": "auto"}, "arm")
        if by == "varied"
        else load_recipe(tmp_path / "r.yaml", ["distill=auto"])
    )
    assert section(again) == Distill.model_validate({"teachers": named["teachers"], **MEANS})


def test_without_teachers_it_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"distill=auto asks the teachers .* there are none; name others"):
        parse_recipe({**BASE, "distill": "auto"}, "here")


@pytest.mark.parametrize(
    ("distill", "message"),
    [
        ({"temperature": "auto", "cache": "c"}, "distill.temperature=auto is decided before each training, and cached"),
        (
            {"every": "auto", "hidden": {}},
            "distill.every=auto looks at what teachers say",
        ),
        ({"every": "auto", "draw": "all"}, r"distill.every=auto reckons with one teacher a step, and distill.draw=all"),
        ({"open_at": "auto", "fraction": 0.5}, r"distill.open_at=auto reckons with whole batches, .*fraction=0.5 asks"),
        ({"weights": "auto", "residence": "sharded"}, r"distill.weights=auto looks at one teacher after the other"),
    ],
)
def test_what_a_probe_cannot_look_at(distill: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_settings(parse_recipe({**BASE, "distill": {"teachers": ["a"], **distill}}, "here"))


def test_weights_go_with_one_drawn_or_all() -> None:
    content = {**BASE, "distill": {"teachers": ["a", "b", "c"], "weights": "auto", "draw": 2}}
    with pytest.raises(RecipeError, match=r"weights"):
        parse_recipe(content, "here")


def test_misspelt() -> None:
    with pytest.raises(RecipeError, match=r"distill\.temperature"):
        parse_recipe({**BASE, "distill": {"teachers": ["a"], "temperature": "automatic"}}, "here")


CHOICE = Choice({"a": 1.0, "b": 0.0, "c": 0.4}, {"a": 1.5, "b": 10.0, "c": 1.0}, 2, 4.0, 0.7, 0.4, 0.3, ())


def test_what_a_choice_makes_of_it() -> None:
    open_ = Distill.model_validate({"teachers": ["a", "b", {"spec": "c", "temperature": 2.0}], **MEANS})
    found = decided(open_, CHOICE)
    assert found is not None and found.undecided == []
    assert [entry.model_dump() for entry in found.teachers] == [
        {"spec": "a", "temperature": 1.5},
        {"spec": "c", "temperature": 2.0},
    ]
    assert (found.temperature, found.weights, found.every, found.weight) == (4.0, [1.0, 0.4], 2, 0.7)
    assert (found.open_at, found.stop, found.cap) == (0.3, "auto", 0.4)
    late = decided(open_.model_copy(update={"start": 0.5, "cap": 0.8}), CHOICE)
    assert late is not None and late.cap == 0.5  # never before it begins
    assert decided(open_, Choice(dict.fromkeys("abc", 0.0), {}, 1, 4.0, 0.5, 1.0, None, ())) is None


def test_what_is_not_left_open_stays() -> None:
    given = {"teachers": ["a", "b", "c"], "weights": [1.0, 2.0, 3.0], "temperature": 2.0, "every": "auto"}
    found = decided(Distill.model_validate(given), CHOICE)
    assert found == Distill.model_validate({**given, "every": 2}) and found.weight == 0.9
    calibrated = decided(Distill.model_validate({"teachers": ["a", "b", "c"], "temperature": "auto"}), CHOICE)
    assert calibrated is not None and [one.temperature for one in calibrated.teachers] == [1.5, 10.0, None]


def test_fewer_teachers_are_drawn_where_fewer_are_left() -> None:
    given = Distill.model_validate({"teachers": ["a", "b", "c"], "draw": 3, "weights": "auto"})
    found = decided(given, Choice({"a": 1.0, "b": 0.0, "c": 0.0}, {}, 1, 4.0, 0.5, 1.0, None, ()))
    assert found is not None and (found.draw, found.specs, found.weights) == (1, ["a"], None)


def test_before_a_probe_a_recipe_is_taken_at_its_most() -> None:
    open_ = Distill.model_validate({"teachers": ["a"], **MEANS})
    assert provisional(open_).undecided == [] and window_of(open_).every == 1


def test_dividing_logits_is_no_other_kind_of_step() -> None:
    plain, scaled = (
        parse_recipe({**BASE, "distill": {"teachers": [entry]}}, "here")
        for entry in ("a", {"spec": "a", "temperature": 3.0})
    )
    assert distill_kind(plain) == distill_kind(scaled)
