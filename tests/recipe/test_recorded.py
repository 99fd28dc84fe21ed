"""Records that other versions wrote, read through today's recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart.recipe.load import load_recipe
from headstart.recipe.recorded import names_today, recorded_recipe, steps_today
from headstart.recipe.step_kinds import count_steps, plain_kind
from headstart.records import RunRecord, read_record
from tests.tiny import tiny_recipe

ROOT = Path(__file__).resolve().parents[2]


def record_of(**distill: object) -> RunRecord:
    recipe = tiny_recipe(Path("somewhere"), distill={"teachers": ["a"], **distill} if distill else None)
    settings = recipe.model_dump(mode="json")
    del settings["train"]["ema"]  # a key that an earlier version had not
    old = {f"old name {place}": count for place, count in enumerate(count_steps(recipe, 12).values())}
    return RunRecord(quality=0.9, seconds=1.0, steps=old, settings=settings)


@pytest.mark.parametrize("distill", [{}, {"stop": 0.25}])
def test_kinds_get_the_names_that_todays_recipe_gives_them(distill: dict[str, object]) -> None:
    record = record_of(**distill)
    recipe = recorded_recipe(record)
    assert recipe is not None and steps_today(record) == count_steps(recipe, 12)
    assert list(names_today(record)) == list(record.steps)


def test_what_cannot_be_told_keeps_its_name() -> None:
    record = record_of(stop=0.25)
    other = record.model_copy(update={"steps": {"plain": 11, "distilling": 1}})  # of another window than it says
    assert names_today(other) == {} and steps_today(other) == other.steps
    foreign = record.model_copy(update={"settings": {"epochs": 3}})
    assert recorded_recipe(foreign) is None and steps_today(foreign) == record.steps


def test_the_old_models_training_is_of_todays_kind() -> None:
    """So that a race can time its steps, and say what it cost."""
    record = read_record(RunRecord, ROOT / "examples/old-model/record.json")
    assert steps_today(record) == {plain_kind(load_recipe(ROOT / "recipes/old-model.yaml")): 5616}
