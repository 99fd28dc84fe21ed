"""The recipes of a race's arms."""

from __future__ import annotations

from pathlib import Path

from headstart.experiment.arms import arm_recipe, decided_arms
from headstart.recipe.load import parse_recipe


def test_steps_with_cached_targets_are_timed_in_the_arm_s_longest_run(tmp_path: Path) -> None:
    """Its targets are cached; the recipe's own length may be longer, and has none of its last steps."""
    arms = {
        "none": {"set": {"distill": None}},
        "live": {"budgets": [4, 6]},
        "cached": {"budgets": [4, 6], "set": {"distill.cache": "targets"}},
    }
    race = {"budgets": [4, 6, 8], "seeds": [0], "baseline": "none", "primary": "live", "arms": arms}
    content = {
        "name": "here",
        "task": "image-classification",
        "model": {"name": "resnet8"},
        "data": {"name": "fashion-mnist"},
        "train": {"steps": 10},
        "distill": {"teachers": ["old"]},
        "race": race,
    }
    recipe = parse_recipe(content, "here")
    found = decided_arms(recipe, {name: arm_recipe(recipe, name) for name in arms}, tmp_path)
    assert [arm.train.steps for arm in found] == [10, 10, 6]
